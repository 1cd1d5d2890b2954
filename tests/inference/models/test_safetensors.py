"""The reader of model folders: what it reads back, what it refuses, that nothing makes it crash."""

import json
import os
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.safetensors import Folder, read_folder
from tokenworks.inference.models.tensors import TensorType

FUZZ = settings(
    max_examples=3_000 if os.environ.get("TOKENWORKS_SOAK") == "1" else 200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LARGEST_ALLOCATION = 8 << 20
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"
HUGE = 2**63


def weights(header: object, data_bytes: int = 0) -> bytes:
    """A safetensors file with this header, which may be anything."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return pack("<Q", len(text)) + text + bytes(data_bytes)


def entry(at: tuple[int, int] = (0, 8), dtype: str = "F32", shape: tuple = (2,)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(at)}


def put(folder: Path, files: dict[str, bytes | str | dict]) -> Path:
    """Write files; without one of its own, a config."""
    for name, content in {"config.json": {"model_type": "tiny"}, **files}.items():
        text = json.dumps(content) if isinstance(content, dict) else content
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def read(folder: Path, data: bytes) -> Folder:
    return read_folder(put(folder, {"model.safetensors": data}))


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    shapes = {"norm": (7,), "matrix": (3, 5), "scale": (), "kernel": (2, 3, 1, 2)}
    made = {
        f"{name}.{dtype}".replace("torch.", ""): torch.randn(shape, generator=random).to(dtype)
        for name, shape in shapes.items()
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    }
    return {**made, "mask": torch.ones(3, dtype=torch.bool), "none": torch.zeros(0, 4)}


TYPES = {
    torch.float32: TensorType.F32,
    torch.float16: TensorType.F16,
    torch.bfloat16: TensorType.BF16,
}


def assert_holds(folder: Folder, expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in expected.items():
        if tensor.dtype is torch.bool:
            continue
        info = folder.info(name)
        assert (info.type, info.shape) == (TYPES[tensor.dtype], tuple(tensor.shape))
        assert folder.raw(name).tobytes() == tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def test_what_the_reference_library_wrote_reads_back(
    tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})

    folder = read_folder(put(tmp_path, {"config.json": {"model_type": "llama", "layers": [1]}}))

    assert set(folder.tensors) | set(folder.foreign) == set(tensors)
    assert_holds(folder, tensors)
    assert folder.config == {"model_type": "llama", "layers": [1]}
    assert folder.path == tmp_path


def test_shards_read_as_one(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    halves = list(tensors)[::2], list(tensors)[1::2]
    for shard, names in zip(SHARDS, halves, strict=True):
        save_file({name: tensors[name] for name in names}, tmp_path / shard)
    placed = {name: shard for shard, names in zip(SHARDS, halves, strict=True) for name in names}

    folder = read_folder(put(tmp_path, {INDEX: {"metadata": {}, "weight_map": placed}}))

    assert_holds(folder, tensors)


def test_one_file_is_taken_before_an_index(tmp_path: Path) -> None:
    lacking = {INDEX: {"weight_map": {"t": SHARDS[0]}}}
    put(tmp_path, {"model.safetensors": weights({"t": entry()}, 8), **lacking})

    assert list(read_folder(tmp_path).tensors) == ["t"]


def test_only_a_foreign_tensor_that_is_used_is_an_error(tmp_path: Path) -> None:
    folder = read(tmp_path, weights({"a": entry((0, 2), "F8_E4M3"), "b": entry((2, 10))}, 10))

    assert folder.raw("b").nbytes == 8
    for use in (folder.info, folder.raw, lambda name: folder.release(name, 0, 2)):
        with pytest.raises(ModelFileError, match="'a' has type F8_E4M3") as refusal:
            use("a")
        assert refusal.value.hint == "supported types in safetensors: F32, F16, BF16"
    with pytest.raises(ModelFileError, match="'c' is missing"):
        folder.raw("c")


def test_a_view_outlives_its_closed_folder_and_cannot_be_written(tmp_path: Path) -> None:
    folder = read(tmp_path, weights({"t": entry()}, 8))
    view = folder.raw("t")

    folder.close()

    assert view.tolist() == [0] * 8
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1


def resident_bytes(path: Path) -> int:
    """How much of a file's mappings is in this process's memory."""
    found = re.findall(
        rf"{re.escape(str(path))}\n(?:[A-Z].*\n)*?Rss: +(\d+) kB",
        Path("/proc/self/smaps").read_text(),
    )
    return sum(int(kilobytes) for kilobytes in found) * 1024


def test_a_released_tensor_takes_no_memory_and_can_be_read_again(tmp_path: Path) -> None:
    large = 8 << 20
    entries = {"a": entry((0, large), "F32", (large // 4,)), "b": entry((large, large + 8))}
    folder = read(tmp_path, weights(entries, large + 8))
    view = folder.raw("a")
    assert view.sum() == 0
    assert resident_bytes(tmp_path / "model.safetensors") >= large

    folder.release("a", 0, large)
    folder.release("b", 0, 8)

    assert resident_bytes(tmp_path / "model.safetensors") < large // 8
    assert view.sum() == 0


def test_links_are_followed_since_hub_caches_consist_of_them(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(weights({"t": entry()}, 8))
    (tmp_path / "model.safetensors").symlink_to("blob")

    assert list(read_folder(put(tmp_path, {})).tensors) == ["t"]


HOSTILE = {
    "nearly empty": (b"1234567", "nearly empty"),
    "huge header": (pack("<Q", HUGE) + b"{}", "claims 9223372036854775808 bytes"),
    "cut header": (pack("<Q", 99) + b"{}", "truncated: the file ends within its header"),
    "no JSON": (weights(b"{"), "header cannot be read"),
    "no object": (weights(b"[]"), "header cannot be read"),
    "deep": (weights(b'{"a":' * 100_000), "header cannot be read"),
    "encoding": (weights(b'{"\xff": 1}'), "header cannot be read"),
    "no entry": (weights({"t": 1}), "entry of tensor 't' cannot be read"),
    "no dtype": (weights({"t": {"shape": []}}), "entry of tensor 't' cannot be read"),
    "negative shape": (weights({"t": entry(shape=(-1,))}), "entry of tensor 't'"),
    "huge shape": (weights({"t": entry(shape=(HUGE,))}), "entry of tensor 't'"),
    "endless number": (
        weights(b'{"t":{"dtype":"F32","data_offsets":[0,0],"shape":[' + b"9" * 3_000 + b"]}}"),
        "entry of tensor 't'",
    ),
    "long entry": (weights({"t": entry(shape=(0,) * 9_000)}), "longer than 4096"),
    "many dimensions": (weights({"t": entry((0, 4), shape=(1,) * 9)}, 4), "9 dimensions"),
    "long name": (weights({"t" * 1_025: entry()}, 8), "longer than 1024"),
    "other size": (weights({"t": entry((0, 9))}, 9), r"has 9 bytes, but F32 of \[2\] takes 8"),
    "overflow": (weights({"t": entry(shape=(1 << 48,) * 8)}, 8), "has 8 bytes, but"),
    "cut off": (weights({"t": entry()}, 7), "truncated: tensor 't' ends at byte 8"),
    "overlap": (weights({"a": entry(), "b": entry((4, 12))}, 12), "'b' lies at 4 to 12, but 'a'"),
    "backwards": (weights({"t": entry((8, 0))}, 8), "'t' lies at 8 to 0"),
    "backwards from 0": (
        weights({"a": entry(), "t": entry((8, 4), "I8")}, 8),
        "'t' lies at 8 to 4",
    ),
    "gap": (weights({"t": entry((8, 16))}, 16), "lies at 8 to 16, but the header ends at 0"),
    "rest": (weights({"t": entry()}, 9), "1 bytes at its end belong to no tensor"),
    "twice": (
        weights(b'{"t":%b,"t":%b}' % ((json.dumps(entry()).encode(),) * 2), 16),
        "8 bytes at its end",
    ),
    "many": (weights(b'{"":1' + b',"":1' * 400_000 + b"}"), "more than the 65536 tensors"),
}


@pytest.mark.parametrize(("data", "problem"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_by_name(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(ModelFileError, match=problem) as refusal:
        read(tmp_path, data)

    assert str(tmp_path / "model.safetensors") in refusal.value.message


def index(**placed: str) -> dict[str, object]:
    return {INDEX: {"weight_map": placed}}


FIRST = {SHARDS[0]: weights({"a": entry()}, 8)}
BOTH = {**FIRST, SHARDS[1]: weights({"b": entry()}, 8)}
INCOMPLETE = {
    "missing shard": (
        {**FIRST, **index(a=SHARDS[0], b=SHARDS[1])},
        f"lacks the shard '{SHARDS[1]}'",
    ),
    "cut shard": (
        {**BOTH, SHARDS[1]: weights({"b": entry()}, 3), **index(a=SHARDS[0], b=SHARDS[1])},
        f"{SHARDS[1]}': truncated",
    ),
    "tensor not there": (
        {**BOTH, **index(a=SHARDS[0], b=SHARDS[1], c=SHARDS[1])},
        f"tensor 'c' is in '{SHARDS[1]}', but it is not",
    ),
    "other shard": ({**BOTH, **index(a=SHARDS[1], b=SHARDS[0])}, "'a' is in"),
    "in two shards": (
        {**BOTH, SHARDS[1]: BOTH[SHARDS[0]], **index(a=SHARDS[0], b=SHARDS[1])},
        "'a' is in two shards",
    ),
    "empty index": (index(), "names no tensor"),
    "outside": (index(a="../model.safetensors"), "no plain name"),
    "absolute": (index(a="/etc/model.safetensors"), "no plain name"),
    "pickle": (index(a="pytorch_model.bin"), "no plain name"),
    "many shards": (index(**{f"t{i}": f"m{i}.safetensors" for i in range(1_001)}), "1001 shards"),
    "no map": ({INDEX: {}}, "weight_map"),
    "index is no JSON": ({INDEX: "{"}, "cannot be read"),
    "many colons": ({INDEX: b"[" + b":" * 600_000}, "names more than"),
    "config is no object": ({"model.safetensors": weights({}), "config.json": "[]"}, "config.json"),
    "config is deep": (
        {"model.safetensors": weights({}), "config.json": '{"a":' * 9_999},
        "config",
    ),
    "config is large": (
        {"model.safetensors": weights({}), "config.json": " " * (5 << 20)},
        "config.json' is too large",
    ),
    "nothing": ({}, "neither model.safetensors nor model.safetensors.index.json"),
    "pickles only": (
        {"pytorch_model.bin": b""},
        "'pytorch_model.bin' only; pickled weights are never",
    ),
}


@pytest.mark.parametrize(("files", "problem"), INCOMPLETE.values(), ids=INCOMPLETE.keys())
def test_what_is_no_whole_model_is_refused_with_the_folder(
    tmp_path: Path, files: dict, problem: str
) -> None:
    with pytest.raises(ModelFileError, match=problem) as refusal:
        read_folder(put(tmp_path, files))

    assert str(tmp_path) in refusal.value.message
    assert "\n" not in refusal.value.message


def test_missing_shards_are_counted_and_come_with_the_next_step(tmp_path: Path) -> None:
    shards = {f"t{i}": f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}

    with pytest.raises(ModelFileError, match=r"'model-00001-of-00003\..*', and 2 more") as refusal:
        read_folder(put(tmp_path, index(**shards)))

    assert refusal.value.hint == "fetch the model again: tokenworks models pull hf:OWNER/NAME"


def test_a_folder_without_a_config_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(weights({}))

    with pytest.raises(ModelFileError, match="has no config"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path: Path, name: str) -> None:
    put(tmp_path, {"model.safetensors": weights({})})
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)  # opening it would wait for a writer for ever

    with pytest.raises(ModelFileError, match="not a regular file"):
        read_folder(tmp_path)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", put(tmp_path, {}) / "config.json", Path("a\0b")):
        with pytest.raises(ModelFileError, match="cannot be read"):
            read_folder(path)


@pytest.fixture(scope="module")
def _traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def use_everything(folder: Path, data: bytes) -> str:
    """Open a folder with this file and use all of it; what came of that."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        opened = read(folder, data)
        for name, info in opened.tensors.items():
            assert opened.raw(name).nbytes == info.nbytes
            opened.release(name, 0, info.nbytes)
        opened.close()
        outcome = "used"
    except ModelFileError:
        outcome = "refused"
    assert tracemalloc.get_traced_memory()[1] - before < LARGEST_ALLOCATION
    return outcome


@pytest.fixture(scope="module")
def real_shaped(tmp_path_factory: pytest.TempPathFactory, tensors: dict) -> bytes:
    path = tmp_path_factory.mktemp("real") / "model.safetensors"
    save_file(tensors, path)
    return path.read_bytes()


sizes = st.integers(-2, 20) | st.sampled_from([2**31, 2**47, 2**48, 2**63, 2**64])
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "F8_E5M2", "?"]) | st.none(),
        "shape": st.lists(sizes, max_size=9),
        "data_offsets": st.lists(sizes, min_size=1, max_size=3),
    }
)


@FUZZ
@given(
    header=st.dictionaries(st.text(max_size=9), entries, max_size=4), data=st.binary(max_size=40)
)
@pytest.mark.timeout(900)  # for soaks
@pytest.mark.usefixtures("_traced")
def test_any_header_is_used_or_refused_but_never_crashes(
    tmp_path: Path, header: dict, data: bytes
) -> None:
    assert use_everything(tmp_path, weights(header) + data) in ("used", "refused")


changes = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.binary(max_size=3)
        | st.sampled_from([b"0", b"9", b"99", b"-", b"{", b"}", b'"', b",", b"]", b"[["]),
    ),
    min_size=1,
    max_size=4,
)


@FUZZ
@given(changes=changes, end=st.one_of(st.none(), st.floats(0, 1, exclude_max=True)))
@pytest.mark.timeout(900)  # for soaks
@pytest.mark.usefixtures("_traced")
def test_a_damaged_real_file_is_used_or_refused_but_never_crashes(
    tmp_path: Path, real_shaped: bytes, changes: list[tuple[float, bytes]], end: float | None
) -> None:
    header_bytes = 8 + int.from_bytes(real_shaped[:8], "little")
    data = bytearray(real_shaped)
    for at, change in changes:
        start = int(at * header_bytes)
        data[start : start + len(change)] = change
    kept = bytes(data if end is None else data[: int(end * len(data))])

    assert use_everything(tmp_path, kept) in ("used", "refused")


def test_the_undamaged_file_is_used(tmp_path: Path, real_shaped: bytes) -> None:
    tracemalloc.start()
    try:
        outcome = use_everything(tmp_path, real_shaped)
    finally:
        tracemalloc.stop()

    assert outcome == "used"


def test_a_hostile_header_of_the_largest_size_takes_bounded_memory_and_time(tmp_path: Path) -> None:
    header = b'{"a":1' + b"".join(b',"%x":1' % i for i in range(300_000)) + b"}"
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="more than the 65536 allowed"):
            read(tmp_path, weights(header))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 128 << 20


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(width=32), max_size=9))
def test_any_values_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    data = np.array(values, "<f4").tobytes()
    path = tmp_path_factory.mktemp("values")

    folder = read(path, weights({"t": entry((0, len(data)), shape=(len(values),))}) + data)

    assert folder.raw("t").tobytes() == data

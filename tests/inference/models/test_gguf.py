"""The GGUF reader: what it reads back, what it refuses, and that nothing makes it crash."""

import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from struct import pack

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.gguf import GGUF, read_gguf
from tokenworks.inference.models.gguf_values import LazyArray
from tokenworks.inference.models.gguf_writer import (
    EncodedTensor,
    NewTensor,
    StoredValue,
    open_gguf_writer,
    write_gguf,
)
from tokenworks.inference.models.model import load_config
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.text.gguf_text import codec_of_gguf
from tokenworks.inference.text.tiny_vocabulary import tiny_vocabulary

FUZZ = settings(
    max_examples=3_000 if os.environ.get("TOKENWORKS_SOAK") == "1" else 200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PROPERTY = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LARGEST_ALLOCATION = 8 << 20

TINY_VOCABULARY = tiny_vocabulary()
UINT32, STRING, ARRAY, BOOL, UINT64 = 4, 8, 9, 7, 10


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return pack("<Q", len(data)) + data


def entry(key: str, type: int, value: bytes) -> bytes:
    return text(key) + pack("<I", type) + value


def tensor(name: str = "t", *, dims: tuple[int, ...] = (32,), type: int = 0, at: int = 0) -> bytes:
    return text(name) + pack(f"<I{len(dims)}QIQ", len(dims), *dims, type, at)


def gguf(
    entries: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    *,
    version: int = 3,
    data_bytes: int = 256,
) -> bytes:
    entries, tensors = entries or [], tensors or []
    head = b"GGUF" + pack("<IQQ", version, len(tensors), len(entries))
    body = head + b"".join(entries + tensors)
    return body + bytes(-len(body) % 32) + bytes(data_bytes)


def read(folder: Path, data: bytes) -> GGUF:
    path = folder / "file.gguf"
    path.write_bytes(data)
    return read_gguf(path)


def plain(value: object) -> object:
    if not isinstance(value, LazyArray):
        return value
    return value.strings() if value.type == STRING else value.numbers().tolist()


@pytest.fixture(scope="module")
def real_shaped(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tokens = len(TINY_VOCABULARY["tokenizer.ggml.tokens"])
    config = replace(TINY_CONFIG, vocabulary=tokens)
    write_random_model(path, config, type=TensorType.Q4_1, metadata=TINY_VOCABULARY)
    return path.read_bytes()


metadata_values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(width=32, allow_nan=False),
    st.text(),
    st.lists(st.text(), min_size=1),
)


@PROPERTY
@given(metadata=st.dictionaries(st.text(min_size=1, max_size=40), metadata_values, max_size=8))
def test_metadata_reads_back_as_it_was_written(tmp_path: Path, metadata: dict) -> None:
    metadata.pop("general.alignment", None)
    write_gguf(tmp_path / "m.gguf", metadata, [])

    found = read_gguf(tmp_path / "m.gguf").metadata

    assert {key: plain(value) for key, value in found.items()} == metadata


def test_arrays_of_numbers_keep_their_type(tmp_path: Path) -> None:
    values = {
        name: np.arange(5).astype(name)
        for name in ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "u8", "i8", "f8")
    }
    write_gguf(tmp_path / "m.gguf", values, [])

    found = read_gguf(tmp_path / "m.gguf").metadata

    for name, expected in values.items():
        array = found[name]
        assert isinstance(array, LazyArray)
        np.testing.assert_array_equal(array.numbers(), expected, strict=True)


def test_tensors_read_back_with_reversed_dimensions(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    written = {
        type.name: EncodedTensor(
            type.name,
            type,
            (3, 512),
            random.integers(0, 256, type.nbytes((3, 512)), dtype=np.uint8),
        )
        for type in TensorType
    }
    write_gguf(tmp_path / "t.gguf", {}, written.values())

    file = read_gguf(tmp_path / "t.gguf")

    assert list(file.tensors) == list(written)
    for name, expected in written.items():
        info = file.tensors[name]
        assert (info.type, info.shape, info.offset % 32) == (expected.type, (3, 512), 0)
        np.testing.assert_array_equal(file.raw(name), expected.raw)


def test_a_file_is_written_piece_by_piece_in_any_order(tmp_path: Path) -> None:
    raw = {name: np.random.default_rng(i).integers(0, 256, 68, np.uint8) for i, name in
           enumerate("ab")}  # fmt: skip
    headers = [NewTensor(name, TensorType.Q8_0, (2, 32)) for name in raw]
    tensors = [EncodedTensor(name, TensorType.Q8_0, (2, 32), raw[name]) for name in raw]
    write_gguf(tmp_path / "whole.gguf", {"key": 1}, tensors)

    with open_gguf_writer(tmp_path / "pieces.gguf", {"key": 1}, headers) as writer:
        writer.write("b", raw["b"][:34])
        writer.write("a", raw["a"])
        writer.write("b", raw["b"][34:])

    assert (tmp_path / "pieces.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


@pytest.mark.parametrize(("written", "said"), [(67, "lacks 1 of"), (69, "more bytes")])
def test_a_tensor_that_is_not_whole_gives_no_file(written: int, said: str, tmp_path: Path) -> None:
    header = NewTensor("a", TensorType.Q8_0, (2, 32))

    with (
        pytest.raises(ValueError, match=said),
        open_gguf_writer(tmp_path / "m.gguf", {}, [header]) as writer,
    ):
        writer.write("a", np.zeros(written, np.uint8))

    assert list(tmp_path.iterdir()) == []


def test_metadata_is_taken_from_another_file_as_it_has_it(tmp_path: Path) -> None:
    values = {"a": np.arange(3, dtype="<i8"), "b": ["x", ""], "c": "text", "d": True, "e": -1.5}
    write_gguf(tmp_path / "m.gguf", values, [])
    first = read_gguf(tmp_path / "m.gguf")

    write_gguf(
        tmp_path / "copy.gguf", {key: StoredValue(first.stored_value(key)) for key in values}, []
    )

    assert (tmp_path / "copy.gguf").read_bytes() == (tmp_path / "m.gguf").read_bytes()


def test_a_view_outlives_its_closed_file(tmp_path: Path) -> None:
    raw = np.arange(128, dtype=np.uint8)
    write_gguf(tmp_path / "t.gguf", {}, [EncodedTensor("t", TensorType.F32, (32,), raw)])
    file = read_gguf(tmp_path / "t.gguf")
    view = file.raw("t")

    file.close()

    np.testing.assert_array_equal(view, raw)


def test_views_hold_the_same_bytes_after_their_memory_was_given_back(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).integers(0, 256, 3 * 20_000, np.uint8)
    names = ("before", "released", "after")
    tensors = [
        EncodedTensor(name, TensorType.F32, (5_000,), part)
        for name, part in zip(names, np.split(raw, 3), strict=True)
    ]
    write_gguf(tmp_path / "t.gguf", {}, tensors)
    file = read_gguf(tmp_path / "t.gguf")
    views = [file.raw(name) for name in names]
    first = [view.copy() for view in views]

    file.release("released", 5_000, 17_000)
    file.release("released", 0, 20_000)

    for view, seen in zip(views, first, strict=True):
        np.testing.assert_array_equal(view, seen)


def test_tensor_bytes_cannot_be_written_through_a_view(tmp_path: Path) -> None:
    view = read(tmp_path, gguf(tensors=[tensor()])).raw("t")

    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1


def test_version_2_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, gguf(version=2)).version == 2


def test_alignment_of_the_file_is_followed(tmp_path: Path) -> None:
    entries = [entry("general.alignment", UINT32, pack("<I", 64))]
    data = gguf(entries, [tensor()], data_bytes=512)

    assert read(tmp_path, data).tensors["t"].offset % 64 == 0


HUGE = 2**63
HOSTILE = {
    "nearly empty": (b"GG", "nearly empty"),
    "not a GGUF file": (b"PK\x03\x04" + bytes(64), "not a GGUF file"),
    "only a magic": (b"GGUF", "truncated"),
    "version": (gguf(version=4), "version 4 is not supported"),
    "big-endian": (gguf(version=3 << 24), "big-endian"),
    "tensor count": (b"GGUF" + pack("<IQQ", 3, HUGE, 0), "more than the 65536 allowed"),
    "entry count": (b"GGUF" + pack("<IQQ", 3, 0, 60_000), "more than the file can hold"),
    "key length": (b"GGUF" + pack("<IQQ", 3, 0, 1) + pack("<Q", HUGE) * 3, "key has"),
    "string length": (gguf([entry("k", STRING, pack("<Q", 1 << 20))]), "file ends within"),
    "string limit": (gguf([entry("k", STRING, pack("<Q", HUGE))]), "more than the"),
    "string encoding": (gguf([entry("k", STRING, text(b"\xff"))]), "not valid UTF-8"),
    "value type": (gguf([entry("k", 13, bytes(8))]), "unknown type 13"),
    "boolean": (gguf([entry("k", BOOL, b"\x02")]), "not a boolean"),
    "array length": (gguf([entry("k", ARRAY, pack("<IQ", UINT32, HUGE))]), "items in"),
    "array of strings": (
        gguf([entry("k", ARRAY, pack("<IQ", STRING, 2) + pack("<Q", HUGE) * 2)]),
        "file ends within",
    ),
    "array of arrays": (gguf([entry("k", ARRAY, pack("<IQ", ARRAY, 1))]), "array of arrays"),
    "key twice": (gguf([entry("k", UINT32, bytes(4))] * 2), "'k' appears twice"),
    "alignment": (gguf([entry("general.alignment", UINT32, pack("<I", 48))]), "power of two"),
    "alignment 0": (gguf([entry("general.alignment", UINT32, bytes(4))]), "power of two"),
    "alignment type": (gguf([entry("general.alignment", STRING, text("32"))]), "power of two"),
    "no dimensions": (gguf(tensors=[tensor(dims=())]), "0 dimensions"),
    "many dimensions": (gguf(tensors=[tensor(dims=(1,) * 5)]), "5 dimensions"),
    "empty dimension": (gguf(tensors=[tensor(dims=(32, 0))]), "empty dimension"),
    "overflowing shape": (gguf(tensors=[tensor(dims=(2**62, 2**62))]), "truncated"),
    "partial block": (gguf(tensors=[tensor(dims=(33,), type=8)]), "blocks of 32"),
    "partial K block": (gguf(tensors=[tensor(dims=(320,), type=12)]), "blocks of 256"),
    "foreign type": (gguf(tensors=[tensor(type=16)]), "type IQ2_XXS, which is not supported"),
    "unknown type": (gguf(tensors=[tensor(type=999)]), "type number 999"),
    "offset": (gguf(tensors=[tensor(at=2**64 - 32)]), "truncated"),
    "misaligned": (gguf(tensors=[tensor(at=8)]), "not a multiple of 32"),
    "cut off": (gguf(tensors=[tensor()], data_bytes=127), "truncated"),
    "overlap": (gguf(tensors=[tensor("a"), tensor("b", at=96)]), "'a' and 'b' overlap"),
    "name twice": (gguf(tensors=[tensor("a"), tensor("a", at=128)]), "'a' appears twice"),
}


@pytest.mark.parametrize(("data", "problem"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_by_name(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(ModelFileError, match=problem) as refusal:
        read(tmp_path, data)

    assert str(tmp_path / "file.gguf") in refusal.value.message


def test_an_unsupported_type_comes_with_the_supported_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as refusal:
        read(tmp_path, gguf(tensors=[tensor(type=16)]))

    assert refusal.value.hint == (
        "supported tensor types: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, "
        "Q6_K, Q8_K, IQ4_NL, IQ4_XS, BF16"
    )


def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")  # opening it would wait for a writer for ever

    for path in (tmp_path, tmp_path / "pipe.gguf"):
        with pytest.raises(ModelFileError, match="not a regular file"):
            read_gguf(path)
    with pytest.raises(ModelFileError, match="No such file"):
        read_gguf(tmp_path / "absent.gguf")


def test_invalid_text_in_an_array_is_reported_when_it_is_read(tmp_path: Path) -> None:
    items = text("fine") + text(b"\xff")
    file = read(tmp_path, gguf([entry("k", ARRAY, pack("<IQ", STRING, 2) + items)]))
    array = file.metadata["k"]
    assert isinstance(array, LazyArray)

    with pytest.raises(ModelFileError, match="invalid UTF-8 in item 1"):
        array.strings()


@pytest.fixture(scope="module")
def _traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def use_everything(folder: Path, data: bytes) -> str:
    """Open a file and use all of it; what came of that."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        file = read(folder, data)
        for value in file.metadata.values():
            if isinstance(value, LazyArray):
                assert len(value.strings() if value.type == STRING else value.numbers()) >= 0
        for name, info in file.tensors.items():
            assert file.raw(name).nbytes == info.nbytes
        load_config(file)
        codec_of_gguf(file)
        outcome = "used"
    except ModelFileError:
        outcome = "refused"
    assert tracemalloc.get_traced_memory()[1] - before < LARGEST_ALLOCATION
    return outcome


@FUZZ
@given(data=st.binary(max_size=300), version=st.sampled_from([2, 3]), counts=st.binary(max_size=16))
@pytest.mark.timeout(900)  # for soaks
@pytest.mark.usefixtures("_traced")
def test_random_bytes_after_the_magic_never_crash(
    tmp_path: Path, data: bytes, version: int, counts: bytes
) -> None:
    small = bytes(byte & 3 if index % 8 == 0 else 0 for index, byte in enumerate(counts))

    outcome = use_everything(tmp_path, b"GGUF" + pack("<I", version) + small + data)

    assert outcome == "refused"


numbers = st.sampled_from(
    [pack("<Q", value) for value in (0, 1, 2, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)]
    + [pack("<I", value) for value in (*range(14), 31, 2**31, 2**32 - 1)]
)
changes = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.one_of(numbers, st.binary(max_size=3))),
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
    header_bytes = real_shaped.rindex(b"output_norm.weight") + 2_000
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

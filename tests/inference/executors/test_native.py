"""The C++ executor against the numpy oracle, and against itself in every chunking and company."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blocks import READ_ONLY, random_blocks
from tokenworks.errors import ConfigError, UnsupportedByKernels
from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Span
from tokenworks.inference.executors.native import NativeExecutor, choose_path, supported_paths
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.config import ModelConfig, expected_tensors
from tokenworks.inference.models.gguf_writer import EncodedTensor, write_gguf
from tokenworks.inference.models.kv_format import KvFormat
from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.models.packing import WIDE_PATHS, footprint_of, packed_bytes
from tokenworks.inference.models.quantisation import ENCODED, quantise
from tokenworks.inference.models.random_model import config_metadata
from tokenworks.inference.models.rounding import NO_ROUNDING, Rounding
from tokenworks.inference.models.tensors import TensorType

SMALL = ModelConfig(
    name="random",
    architecture="llama",
    layers=2,
    hidden=96,
    heads=6,
    kv_heads=2,
    head_dim=16,
    feed_forward=160,
    vocabulary=500,  # not a whole number of panels
    context_length=256,
    norm_epsilon=1e-5,
    rope_theta=10_000.0,
    rope_dim=16,
    rope_interleaved=True,
)
KV_FORMATS: tuple[KvFormat, ...] = get_args(KvFormat)
SHAPES = {
    "grouped heads": SMALL,
    "one kv head, wide heads": replace(
        SMALL, heads=3, kv_heads=1, head_dim=64, rope_dim=64, feed_forward=352, hidden=64
    ),
    "no grouping, part of the head rotated": replace(
        SMALL, heads=4, kv_heads=4, head_dim=32, rope_dim=16
    ),
    "heads wider than hidden": replace(SMALL, hidden=32, heads=4, head_dim=48, rope_dim=48),
}


def write_random_model(path: Path, config: ModelConfig, encoding: TensorType) -> Model:
    random = np.random.default_rng(1)
    tensors = []
    for name, shape, _ in expected_tensors(config):
        matrix = len(shape) == 2
        values = (
            random.normal(0, shape[-1] ** -0.5, shape) if matrix else random.uniform(0.5, 2, shape)
        )
        type = encoding if matrix else TensorType.F32
        if type in READ_ONLY:
            raw = random_blocks(type, shape, shape[-1] ** -0.5, random)
        else:
            raw = quantise(values.astype(np.float32), type)
        tensors.append(EncodedTensor(name, type, shape, raw))
    write_gguf(path, config_metadata(config), tensors)
    return load_model(path)


def pages_of(first: int, tokens: int) -> NDArray[np.int32]:
    """Out of order on purpose: the place of a page must not matter."""
    count = -(-tokens // PAGE_TOKENS)
    return (np.arange(count, dtype=np.int32)[::-1] + first).copy()


def run(
    executor: NativeExecutor | ReferenceExecutor,
    tokens: NDArray[np.int32],
    chunks: list[int],
    first_page: int = 0,
) -> NDArray[np.float32]:
    """Logits of every token, the sequence being fed in chunks."""
    table = pages_of(first_page, len(tokens))
    start, parts = 0, []
    for length in chunks:
        batch = Batch(
            tokens=tokens[start : start + length],
            spans=(Span(start=start, length=length, pages=table),),
            logit_rows=np.arange(length, dtype=np.int32),
        )
        parts.append(executor.forward(batch).copy())
        start += length
    return np.concatenate(parts)


def random_tokens(count: int, seed: int = 0) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, SMALL.vocabulary, count).astype(np.int32)


def native(
    model: Model,
    isa: str = "auto",
    threads: int = 2,
    rounding: Rounding = NO_ROUNDING,
    kv_format: KvFormat = "bf16",
) -> NativeExecutor:
    executor = NativeExecutor(
        model,
        isa=isa,
        threads=threads,
        context_length=0,
        rounding=rounding,
        kv_format=kv_format,
    )
    executor.allocate(64)
    return executor


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("native") / "random.gguf"
    return write_random_model(path, SMALL, TensorType.Q4_1)


@pytest.fixture(scope="module", params=KV_FORMATS)
def executor(model: Model, request: pytest.FixtureRequest) -> NativeExecutor:
    return native(model, kv_format=request.param)


@pytest.mark.parametrize("isa", supported_paths())
@pytest.mark.parametrize("encoding", ENCODED, ids=lambda type: type.name)
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_match_the_oracle(
    tmp_path: Path, shape: str, encoding: TensorType, isa: str
) -> None:
    model = write_random_model(tmp_path / "model.gguf", SHAPES[shape], encoding)
    oracle = ReferenceExecutor(model)
    oracle.allocate(64)
    tokens = random_tokens(40)
    expected = run(oracle, tokens, [40])

    actual = run(native(model, isa), tokens, [40])

    # Activations are int8 here and float32 in the oracle; weights of float files become int8.
    error = np.sqrt(np.mean((actual - expected) ** 2) / np.mean(expected**2))
    assert error < 0.06
    assert error > 0  # or this compared an executor with itself


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "own output"])
@pytest.mark.parametrize("encoding", READ_ONLY, ids=lambda type: type.name)
def test_repacked_formats_match_the_oracle(
    tmp_path: Path, encoding: TensorType, tied: bool
) -> None:
    config = replace(
        SMALL, hidden=256, heads=4, head_dim=64, rope_dim=64, feed_forward=512, tied_embedding=tied
    )
    model = write_random_model(tmp_path / "model.gguf", config, encoding)
    oracle = ReferenceExecutor(model)
    oracle.allocate(64)
    tokens = random_tokens(20)
    expected = run(oracle, tokens, [20])
    executor = native(model)

    actual = run(executor, tokens, [20])

    footprint = footprint_of(tmp_path / "model.gguf", wide=choose_path("auto") in WIDE_PATHS)
    assert footprint.packed_bytes == executor.weight_bytes

    error = np.sqrt(np.mean((actual - expected) ** 2) / np.mean(expected**2))
    assert 0 < error < 0.06


ROUNDINGS = [
    Rounding({"output": "q6"}, (3, -2, 0) * 32),
    Rounding({"attention": "q6", "gate and up": "q4"}),
    Rounding({"down": "q6", "output": "q4"}),
    Rounding({"attention": "q8", "gate and up": "q8", "down": "q8", "output": "q8"}),
]


@pytest.mark.parametrize("isa", supported_paths())
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "own output"])
@pytest.mark.parametrize("encoding", [TensorType.Q8_0, TensorType.F16], ids=lambda type: type.name)
def test_a_model_rounded_anew_is_the_one_that_is_loaded_so(
    tmp_path: Path, encoding: TensorType, tied: bool, isa: str
) -> None:
    config = replace(SMALL, tied_embedding=tied)
    model = write_random_model(tmp_path / "model.gguf", config, encoding)
    tokens = random_tokens(30)
    as_stored = native(model, isa)
    plain = run(as_stored, tokens, [30])
    room = as_stored.weight_bytes

    for rounding in ROUNDINGS:
        loaded = native(model, isa, rounding=rounding)
        planned = run(loaded, tokens, [30])
        as_stored.round_to(model, rounding)

        assert np.array_equal(run(as_stored, tokens, [11, 19]), planned)
        assert np.array_equal(planned, plain) == ("q8" in rounding.formats.values())
        assert np.sqrt(np.mean((planned - plain) ** 2) / np.mean(plain**2)) < 0.25
        wide = isa in WIDE_PATHS
        packed = packed_bytes(model.tensors, config, rounding.formats, wide=wide)
        assert loaded.weight_bytes == sum(packed.values()) <= room

    as_stored.round_to(model, NO_ROUNDING)
    assert np.array_equal(run(as_stored, tokens, [30]), plain)
    # Scales of rows, once made, stay.
    assert as_stored.weight_bytes == room or (
        isa in WIDE_PATHS and as_stored.weight_bytes < 1.1 * room
    )


def test_rows_that_are_no_whole_groups_run_in_bf16_close_to_the_oracle(tmp_path: Path) -> None:
    config = replace(SMALL, hidden=72, heads=5, kv_heads=1, feed_forward=100)
    model = write_random_model(tmp_path / "model.gguf", config, TensorType.F32)
    oracle = ReferenceExecutor(model)
    oracle.allocate(64)
    tokens = random_tokens(33)
    expected = run(oracle, tokens, [33])

    actual = run(native(model), tokens, [33])

    error = np.sqrt(np.mean((actual - expected) ** 2) / np.mean(expected**2))
    assert 0 < error < 0.01


@pytest.mark.parametrize("isa", supported_paths())
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_with_int8_pages_match_the_oracles(tmp_path: Path, shape: str, isa: str) -> None:
    """Most weights run as they are: what is left are activations of some, and codes beside them."""
    config = replace(SHAPES[shape], hidden=72, feed_forward=100)
    model = write_random_model(tmp_path / "model.gguf", config, TensorType.F32)
    tokens = random_tokens(45)
    oracle, coded_oracle = ReferenceExecutor(model), ReferenceExecutor(model, kv_format="int8")
    for one in (oracle, coded_oracle):
        one.allocate(64)
    expected, coded = (run(one, tokens, [45]) for one in (oracle, coded_oracle))

    actual = run(native(model, isa, kv_format="int8"), tokens, [45])

    def error(of: NDArray[np.float32], against: NDArray[np.float32]) -> float:
        return float(np.sqrt(np.mean((of - against) ** 2) / np.mean(against**2)))

    assert 0 < error(actual, coded) < 0.03
    assert 0.005 < error(coded, expected) < 0.03


@pytest.mark.parametrize("isa", supported_paths())
@pytest.mark.parametrize("kv_format", KV_FORMATS)
@settings(max_examples=20, deadline=None)
@given(chunks=st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_any_chunking_gives_the_same_bits(
    model: Model, kv_format: KvFormat, isa: str, chunks: list[int]
) -> None:
    executor = native(model, isa, kv_format=kv_format)
    tokens = random_tokens(sum(chunks))
    whole = run(executor, tokens, [len(tokens)])

    in_chunks = run(executor, tokens, chunks, first_page=32)

    assert np.array_equal(whole, in_chunks)


def test_one_token_at_a_time_gives_the_same_bits_as_the_whole_prompt(
    executor: NativeExecutor,
) -> None:
    tokens = random_tokens(70)

    assert np.array_equal(run(executor, tokens, [70]), run(executor, tokens, [1] * 70, 32))


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_company_in_the_batch_changes_no_bit(executor: NativeExecutor, data: st.DataObject) -> None:
    """Sequences at different places of their prefill and decode share a forward."""
    lengths = data.draw(st.lists(st.integers(1, 50), min_size=2, max_size=6))
    done = [data.draw(st.integers(0, length - 1)) for length in lengths]
    sequences = [random_tokens(length, seed) for seed, length in enumerate(lengths)]
    alone = [run(executor, tokens, [len(tokens)], 60)[-1] for tokens in sequences]
    spans = []
    for index, (tokens, start) in enumerate(zip(sequences, done, strict=True)):
        table = pages_of(8 * index, len(tokens))
        if start:
            head = Span(start=0, length=start, pages=table)
            none = np.empty(0, np.int32)
            executor.forward(Batch(tokens=tokens[:start], spans=(head,), logit_rows=none))
        spans.append(Span(start=start, length=len(tokens) - start, pages=table))
    rows = np.cumsum([span.length for span in spans]).astype(np.int32) - 1

    mixed = executor.forward(
        Batch(
            tokens=np.concatenate([t[s:] for t, s in zip(sequences, done, strict=True)]),
            spans=tuple(spans),
            logit_rows=rows.astype(np.int32),
        )
    )

    assert np.array_equal(mixed, np.stack(alone))


@pytest.mark.parametrize("kv_format", KV_FORMATS)
def test_the_number_of_threads_changes_no_bit(model: Model, kv_format: KvFormat) -> None:
    tokens = random_tokens(50)
    one, *more = (
        run(native(model, threads=n, kv_format=kv_format), tokens, [20, 1, 29])
        for n in (1, 2, 3, 5)
    )

    assert all(np.array_equal(one, other) for other in more)


def test_a_page_that_was_used_before_leaves_no_trace(executor: NativeExecutor) -> None:
    tokens = random_tokens(20, seed=5)
    fresh = run(executor, tokens, [20], first_page=40)
    run(executor, random_tokens(32, seed=6), [32], first_page=40)

    assert np.array_equal(run(executor, tokens, [20], first_page=40), fresh)


@pytest.mark.parametrize(
    "batch",
    [
        Batch(
            tokens=np.array([500], np.int32),
            spans=(Span(start=0, length=1, pages=np.array([0], np.int32)),),
            logit_rows=np.array([0], np.int32),
        ),
        Batch(
            tokens=np.array([-1], np.int32),
            spans=(Span(start=0, length=1, pages=np.array([0], np.int32)),),
            logit_rows=np.array([0], np.int32),
        ),
        Batch(
            tokens=np.array([1], np.int32),
            spans=(Span(start=0, length=1, pages=np.array([64], np.int32)),),
            logit_rows=np.array([0], np.int32),
        ),
        Batch(
            tokens=np.array([1], np.int32),
            spans=(Span(start=16, length=1, pages=np.array([0], np.int32)),),
            logit_rows=np.array([0], np.int32),
        ),
        Batch(
            tokens=np.array([1, 2], np.int32),
            spans=(Span(start=0, length=1, pages=np.array([0], np.int32)),),
            logit_rows=np.array([0], np.int32),
        ),
        Batch(
            tokens=np.array([1], np.int32),
            spans=(Span(start=0, length=1, pages=np.array([0], np.int32)),),
            logit_rows=np.array([1], np.int32),
        ),
        Batch(
            tokens=np.array([1], np.int32),
            spans=(Span(start=0, length=1, pages=np.array([0], np.int32)),),
            logit_rows=np.zeros(2, np.int32),
        ),
    ],
    ids=[
        *("token", "negative token", "page", "too few pages", "uncovered row"),
        *("logit row", "logit row twice"),
    ],
)
def test_a_batch_out_of_range_is_refused(executor: NativeExecutor, batch: Batch) -> None:
    with pytest.raises(ValueError, match=r"out of range|too few|do not cover"):
        executor.forward(batch)


TOO_MANY_THREADS = """
import resource, sys
from pathlib import Path
from tokenworks.errors import ConfigError
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.models.model import load_model

model = load_model(Path(sys.argv[1]))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)  # room for a dozen stacks
try:
    NativeExecutor(model, isa="portable", threads=500, context_length=0)
except ConfigError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_more_threads_than_the_system_allows_are_an_error(tiny_model: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", TOO_MANY_THREADS, tiny_model], capture_output=True, text=True
    )

    assert run.stdout.startswith("500 threads cannot be started"), run.stderr


def test_unknown_instruction_set_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"it can run: .*portable"):
        choose_path("avx1024")


def test_heads_that_do_not_fit_the_kernels_are_named(tmp_path: Path) -> None:
    config = replace(SMALL, head_dim=24, rope_dim=24)
    model = write_random_model(tmp_path / "model.gguf", config, TensorType.F32)

    with pytest.raises(UnsupportedByKernels, match="24"):
        native(model)


def test_context_is_the_smaller_of_model_and_setting(model: Model) -> None:
    assert NativeExecutor(model, isa="auto", threads=1, context_length=100).context_length == 100
    assert NativeExecutor(model, isa="auto", threads=1, context_length=0).context_length == 256
    assert NativeExecutor(model, isa="auto", threads=1, context_length=999).context_length == 256

"""What Python hands to the extension is checked before any kernel reads or writes through it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.models.model import load_model

PAGES = 6
HUGE = 2**31 - 1


def integers(*values: int) -> NDArray[np.int32]:
    return np.array(values, np.int32)


@dataclass(frozen=True)
class Call:
    """Arguments of one forward: two sequences, of 20 tokens and of 1 after 16 others."""

    tokens: NDArray[Any] = field(default_factory=lambda: np.arange(21, dtype=np.int32))
    starts: NDArray[Any] = field(default_factory=lambda: integers(0, 16))
    lengths: NDArray[Any] = field(default_factory=lambda: integers(20, 1))
    offsets: NDArray[Any] = field(default_factory=lambda: integers(0, 2, 4))
    pages: NDArray[Any] = field(default_factory=lambda: integers(4, 0, 5, 1))
    wanted: NDArray[Any] = field(default_factory=lambda: integers(19, 20))
    out_rows: int = 2
    out_width: int | None = None


@pytest.fixture(scope="module")
def executor(tiny_model: Path) -> NativeExecutor:
    opened = NativeExecutor(load_model(tiny_model), isa="auto", threads=2, context_length=0)
    opened.allocate(PAGES)
    return opened


def run(executor: NativeExecutor, call: Call) -> NDArray[np.float32]:
    transformer = executor._transformer
    width = transformer.logit_stride if call.out_width is None else call.out_width
    out = np.full((call.out_rows, width), np.nan, np.float32)
    transformer.forward(
        *(call.tokens, call.starts, call.lengths, call.offsets, call.pages, call.wanted),
        *(False, out),
    )
    return out[:, : executor.vocabulary_size]


def test_a_good_call_is_taken(executor: NativeExecutor) -> None:
    assert np.isfinite(run(executor, Call())).all()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no rows": ({"tokens": integers()}, "empty batch"),
    "token below 0": ({"tokens": integers(-1, *range(20))}, "token out of range"),
    "token beyond the vocabulary": ({"tokens": integers(HUGE, *range(20))}, "token out of range"),
    "page below 0": ({"pages": integers(4, -1, 5, 1)}, "page out of range"),
    "page beyond the last": ({"pages": integers(4, 0, PAGES, 1)}, "page out of range"),
    "a page that no span uses": (
        {"pages": integers(4, 0, 5, 1, HUGE), "offsets": integers(0, 2, 4)},
        "page out of range",
    ),
    "start below 0": ({"starts": integers(-1, 16)}, "span out of range"),
    "start beyond its pages": ({"starts": integers(0, 32)}, "too few pages"),
    "start at the end of numbers": ({"starts": integers(0, HUGE)}, "too few pages"),
    "no length": ({"lengths": integers(21, 0)}, "span out of range"),
    "length below 0": ({"lengths": integers(22, -1)}, "span out of range"),
    "length beyond the rows": ({"lengths": integers(20, 2)}, "span out of range"),
    "the longest length": ({"lengths": integers(HUGE, HUGE)}, "span out of range"),
    "rows of no span": ({"lengths": integers(19, 1)}, "do not cover the rows"),
    "too few pages": ({"offsets": integers(0, 1, 4)}, "too few pages"),
    "offsets that go back": ({"offsets": integers(0, 4, 2)}, "page offsets out of range"),
    "offset below 0": ({"offsets": integers(-2, 2, 4)}, "page offsets out of range"),
    "offset beyond the pages": ({"offsets": integers(0, 2, 5)}, "page offsets out of range"),
    "a start too many": ({"starts": integers(0, 16, 0)}, "spans disagree"),
    "a length too few": ({"lengths": integers(21)}, "spans disagree"),
    "an offset too few": ({"offsets": integers(0, 4)}, "spans disagree"),
    "wanted row below 0": ({"wanted": integers(-1, 20)}, "wanted row out of range"),
    "wanted row beyond the rows": ({"wanted": integers(19, 21)}, "wanted row out of range"),
    "wanted rows twice": ({"wanted": integers(20, 20)}, "wanted row out of range"),
    "wanted rows descending": ({"wanted": integers(20, 19)}, "wanted row out of range"),
    "result with too few rows": ({"out_rows": 1}, "shape is wrong"),
    "result too narrow": ({"out_width": 16}, "shape is wrong"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_index_out_of_place_is_refused(name: str, executor: NativeExecutor) -> None:
    changes, message = BAD[name]
    before = run(executor, Call())

    with pytest.raises(ValueError, match=message):
        run(executor, replace(Call(), **changes))

    assert (run(executor, Call()) == before).all()


@pytest.mark.parametrize("name", ["tokens", "starts", "lengths", "offsets", "pages", "wanted"])
def test_an_array_of_another_shape_is_refused_and_another_layout_read_aright(
    name: str, executor: NativeExecutor
) -> None:
    good: NDArray[np.int32] = getattr(Call(), name)
    strided = np.repeat(good, 2)[::2]

    with pytest.raises(TypeError, match="incompatible function arguments"):
        run(executor, replace(Call(), **{name: good.reshape(1, -1)}))
    assert (run(executor, replace(Call(), **{name: strided})) == run(executor, Call())).all()


def test_results_go_into_the_array_that_was_given_or_nowhere(executor: NativeExecutor) -> None:
    call, width = Call(), executor._transformer.logit_stride
    arguments = (call.tokens, call.starts, call.lengths, call.offsets, call.pages, call.wanted)
    frozen = np.zeros((2, width), np.float32)
    frozen.flags.writeable = False

    for out in (np.zeros((2, width)), np.zeros((width, 2), np.float32).T, frozen):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            executor._transformer.forward(*arguments, False, out)


def test_nothing_runs_before_there_are_pages(tiny_model: Path) -> None:
    bare = NativeExecutor(load_model(tiny_model), isa="auto", threads=1, context_length=0)

    for pages in (0, -1):
        with pytest.raises(ValueError, match="pages must be positive"):
            bare.allocate(pages)
    with pytest.raises(ValueError, match="page out of range"):
        run(bare, Call())
    bare.allocate(PAGES)
    with pytest.raises(RuntimeError, match="allocated already"):
        bare.allocate(PAGES)


def test_weights_go_to_places_that_exist_and_have_their_size(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    executor = NativeExecutor(model, isa="auto", threads=1, context_length=0)
    transformer = executor._transformer
    size = model.config.hidden
    raw = np.zeros(size * size * 4, np.uint8)

    def matrix(layer: int, name: str, raw: NDArray[np.uint8], encoding: str = "F32") -> None:
        transformer.set_matrix(layer, name, encoding, raw, lambda begin, end: None)

    for layer in (-2, model.config.layers, HUGE):
        with pytest.raises(ValueError, match="layer out of range"):
            matrix(layer, "attn_q", raw)
        with pytest.raises(ValueError, match="layer out of range"):
            transformer.set_vector(layer, "attn_norm.weight", np.ones(size, np.float32))
    with pytest.raises(ValueError, match="attn_z"):
        matrix(0, "attn_z", raw)
    with pytest.raises(ValueError, match="no kernel for the encoding"):
        matrix(0, "attn_q", raw, "IQ1_S")
    for bytes_ in (raw[:-4], raw[:0]):
        with pytest.raises(ValueError, match="wrong number of bytes"):
            matrix(0, "attn_q", bytes_)
    with pytest.raises(ValueError, match="wrong size"):
        transformer.set_vector(0, "attn_norm.weight", np.ones(size - 1, np.float32))


def is_good(call: Call, vocabulary: int) -> bool:
    """The rules in words of Python's own unbounded numbers."""
    tokens, starts, lengths = (x.tolist() for x in (call.tokens, call.starts, call.lengths))
    offsets, pages, wanted = (x.tolist() for x in (call.offsets, call.pages, call.wanted))
    if not (len(starts) == len(lengths) == len(offsets) - 1):
        return False
    spans = list(zip(starts, lengths, offsets[:-1], offsets[1:], strict=True))
    return (
        bool(tokens)
        and all(0 <= token < vocabulary for token in tokens)
        and all(0 <= page < PAGES for page in pages)
        and sum(lengths) == len(tokens)
        and all(
            start >= 0
            and length > 0
            and 0 <= begin <= end <= len(pages)
            and (end - begin) * PAGE_TOKENS >= start + length
            for start, length, begin, end in spans
        )
        and wanted == sorted(set(wanted))
        and all(0 <= row < len(tokens) for row in wanted)
    )


small = st.integers(-1, 8)
any_number = st.one_of(small, st.sampled_from([15, 16, 17, 320, HUGE, -HUGE - 1]))


def array_of(numbers: st.SearchStrategy[int], most: int) -> st.SearchStrategy[NDArray[np.int32]]:
    return st.lists(numbers, max_size=most).map(lambda values: integers(*values))


calls = st.builds(
    Call,
    tokens=array_of(st.integers(0, 9), 8),
    starts=array_of(any_number, 2),
    lengths=array_of(any_number, 2),
    offsets=array_of(small, 3),
    pages=array_of(st.integers(-1, PAGES), 4),
    wanted=array_of(st.integers(-1, 8), 3),
    out_rows=st.just(3),
)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(call=calls, one=st.integers(1, 8))
def test_any_indices_are_either_good_or_refused(
    executor: NativeExecutor, call: Call, one: int
) -> None:
    whole = replace(  # a call that would be good, with one part at random
        Call(),
        tokens=np.arange(one, dtype=np.int32),
        starts=integers(3),
        lengths=integers(one),
        offsets=integers(0, 1),
        pages=integers(2),
        wanted=integers(one - 1),
        out_rows=3,
    )
    names = ("tokens", "starts", "lengths", "offsets", "pages", "wanted")
    mixed = [replace(whole, **{name: getattr(call, name)}) for name in names]
    for tried in (whole, call, *mixed):
        if is_good(tried, executor.vocabulary_size):
            run(executor, tried)
        else:
            with pytest.raises(ValueError, match=r"."):
                run(executor, tried)

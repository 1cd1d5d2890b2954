"""Rows and pages that are copied, read and written: the logits after them are the same bits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Executor, Span
from tokenworks.inference.executors.native import NativeExecutor, supported_paths
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.executors.scripted import ScriptedExecutor
from tokenworks.inference.models.architectures.gemma3 import GEMMA3
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.random_model import TINY_CONFIG, tiny_config, write_random_model

KINDS = ["scripted", "reference bf16", "reference int8"] + [
    f"{path} {format}" for path in supported_paths() for format in ("bf16", "int8")
]
CONFIGS = {"full": TINY_CONFIG, "windowed": tiny_config(GEMMA3)}
TOKENS = np.random.default_rng(5).integers(0, 97, 3 * PAGE_TOKENS).astype(np.int32)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=CONFIGS)
def executor(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Executor]:
    path, _, format = kind.partition(" ")
    if path == "scripted":
        scripted = ScriptedExecutor()
        scripted.allocate(16)
        yield scripted
        return
    write_random_model(tmp_path / "m.gguf", CONFIGS[request.param])
    model = load_model(tmp_path / "m.gguf")
    options: dict[str, Any] = {"context_length": 0, "kv_format": format}
    opened = (
        ReferenceExecutor(model, **options)
        if path == "reference"
        else NativeExecutor(model, isa=path, threads=2, **options)
    )
    opened.allocate(16)
    yield opened
    model.close()


def compute(
    executor: Executor, tokens: NDArray[np.int32], pages: list[int], start: int = 0
) -> NDArray[np.float32]:
    """The logits after every token from `start` on; those before are in the pages."""
    length = len(tokens) - start
    span = Span(start=start, length=length, pages=np.array(pages, np.int32))
    rows = np.arange(length, dtype=np.int32)
    return executor.forward(Batch(tokens=tokens[start:], spans=(span,), logit_rows=rows)).copy()


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 15])
def test_what_follows_copied_rows_is_as_if_they_were_computed(
    executor: Executor, rows: int
) -> None:
    known = PAGE_TOKENS + rows
    compute(executor, TOKENS, [0, 1, 2])
    other = TOKENS.copy()
    other[known:] = TOKENS[::-1][known:]
    expected = compute(executor, other, [3, 4, 5])
    compute(executor, TOKENS[::-1].copy(), [6, 7, 8])  # what the target held before

    executor.copy_rows(1, 7, rows)
    executor.write_page(6, executor.read_page(0))

    alone = compute(executor, other[: known + 1], [6, 7], known)
    assert (alone == expected[known : known + 1]).all()
    assert (compute(executor, other, [6, 7, 9], known) == expected[known:]).all()


def test_a_page_is_read_and_written_whole(executor: Executor) -> None:
    expected = compute(executor, TOKENS, [3, 1, 2])
    contents = [executor.read_page(page) for page in (3, 1)]
    compute(executor, TOKENS[::-1].copy(), [0, 1, 3])

    for page, content in zip((5, 0), contents, strict=True):
        executor.write_page(page, content)

    assert all(len(content) == executor.page_bytes for content in contents)
    again = compute(executor, TOKENS, [5, 0, 9], 2 * PAGE_TOKENS)
    assert (again == expected[2 * PAGE_TOKENS :]).all()


@pytest.mark.parametrize("kind", ["portable bf16"], indirect=True)
def test_the_kernels_refuse_pages_and_rows_that_are_not(executor: Executor) -> None:
    for source, target, rows in ((0, 16, 1), (-1, 0, 1), (0, 0, 1), (0, 1, 17), (0, 1, -1)):
        with pytest.raises(ValueError, match=r"page|rows"):
            executor.copy_rows(source, target, rows)
    with pytest.raises(ValueError, match="page out of range"):
        executor.read_page(16)
    with pytest.raises(ValueError, match="number of bytes"):
        executor.write_page(0, b"short")

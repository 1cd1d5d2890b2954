"""Whole contexts: native kernels against the oracle near the end, the same bits in any chunks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Executor, Span
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.architectures.gemma3 import GEMMA3
from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.models.random_model import TINY_CONFIG, tiny_config, write_random_model
from tokenworks.inference.models.tensors import TensorType

LIMIT = 8192
_SIZES: dict[str, Any] = {"context_length": LIMIT, "heads": 2, "kv_heads": 1}
WINDOWED = replace(tiny_config(GEMMA3), **_SIZES, layers=5, windows=(300,) * 5)
CONFIGS = {
    "full attention": replace(TINY_CONFIG, **_SIZES, rope_scale=4.0, has_rope_factors=True),
    "windows": WINDOWED,
    "windows and full attention": replace(WINDOWED, layers=6, windows=(300,) * 5 + (0,)),
}


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Model]:
    config: ModelConfig = CONFIGS[request.param]
    write_random_model(tmp_path / "m.gguf", config, type=TensorType.Q8_0)
    model = load_model(tmp_path / "m.gguf")
    assert model.config.windows == config.windows
    yield model
    model.close()


def logits(executor: Executor, chunks: list[int], wanted: NDArray[np.int32]) -> NDArray[np.float32]:
    """Those after the `wanted` tokens of one random sequence, which is computed in these chunks."""
    tokens = np.random.default_rng(3).integers(0, TINY_CONFIG.vocabulary, LIMIT).astype(np.int32)
    pages = np.random.default_rng(4).permutation(LIMIT // PAGE_TOKENS).astype(np.int32)
    parts, start = [], 0
    for length in chunks:
        rows = wanted[(wanted >= start) & (wanted < start + length)] - start
        span = Span(start=start, length=length, pages=pages[: -(-(start + length) // PAGE_TOKENS)])
        batch = Batch(tokens=tokens[start : start + length], spans=(span,), logit_rows=rows)
        parts.append(executor.forward(batch).copy())
        start += length
    return np.concatenate(parts)


def opened(model: Model) -> NativeExecutor:
    executor = NativeExecutor(model, isa="auto", threads=2, context_length=0)
    executor.allocate(LIMIT // PAGE_TOKENS)
    return executor


def error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))


def test_the_last_tokens_are_as_near_to_the_oracle_as_the_first(model: Model) -> None:
    oracle = ReferenceExecutor(model)
    oracle.allocate(LIMIT // PAGE_TOKENS)
    # The oracle takes many seconds for a whole context, and windows need more layers.
    end = 2048 if model.config.windows else LIMIT
    edges = np.r_[:128, end - 128 : end].astype(np.int32)
    chunks = [256] * (end // 256)

    expected = logits(oracle, chunks, edges)
    found = logits(opened(model), chunks, edges)

    first, last = error(found[:128], expected[:128]), error(found[128:], expected[128:])
    assert 0 < first < 0.06
    assert 0 < last < 1.5 * first


def test_a_whole_context_has_the_same_bits_in_any_chunks(model: Model) -> None:
    edges = np.r_[:8, LIMIT - 8 : LIMIT].astype(np.int32)
    uneven = [1, 254, 2, 1000, 3, 900, 17, 4000, 16, LIMIT - 6193 - 1, 1]

    at_once = logits(opened(model), [LIMIT], edges)

    assert np.array_equal(logits(opened(model), [256] * (LIMIT // 256), edges), at_once)
    assert np.array_equal(logits(opened(model), uneven, edges), at_once)

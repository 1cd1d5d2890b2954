import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.quality import (
    Comparison,
    Gate,
    Quality,
    calibration_text,
    compare,
    divergence,
    logits_in_pieces,
    pages_of,
    window_logits,
    windows_of,
)

GATE = Gate(most_kl=0.05, least_agreement=0.9)


def quality(kl: float = 0.01, same: float = 0.95) -> Quality:
    return Quality(kl=kl, kl_standard_error=0.001, kl_p99=0.1, same_top_token=same, tokens=100)


def opened(path: Path, pages: int) -> ReferenceExecutor:
    executor = ReferenceExecutor(load_model(path))
    executor.allocate(pages)
    return executor


def test_divergence_is_that_of_two_known_distributions() -> None:
    base = np.log(np.array([[0.5, 0.25, 0.25]], np.float32))
    other = np.log(np.array([[0.25, 0.5, 0.25]], np.float32))

    kl = divergence(base + 3, other - 7)  # logits are free up to a constant

    assert kl[0] == pytest.approx(0.5 * math.log(2) + 0.25 * math.log(0.5), abs=1e-6)


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 1000))
def test_divergence_is_never_negative_and_zero_for_the_same(
    rows: int, vocabulary: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    base = random.normal(0, 20, (rows, vocabulary)).astype(np.float32)
    other = random.normal(0, 20, (rows, vocabulary)).astype(np.float32)

    assert (divergence(base, other) >= -1e-12).all()
    assert (divergence(base, base) == 0).all()


def test_rows_of_a_large_vocabulary_are_taken_a_few_at_a_time() -> None:
    random = np.random.default_rng(0)
    base, other = random.normal(0, 3, (2, 5, 1_500_000)).astype(np.float32)

    whole = divergence(base, other)

    assert whole == pytest.approx([float(divergence(b[None], o[None])[0])
                                   for b, o in zip(base, other, strict=True)])  # fmt: skip


def test_figures_are_those_of_all_pieces_together() -> None:
    random = np.random.default_rng(1)
    base, other = random.normal(0, 2, (2, 50, 30)).astype(np.float32)
    kl = divergence(base, other)
    comparison = Comparison()
    for at in (0, 20, 40):
        comparison.add(base[at : at + 20], other[at : at + 20])

    found = comparison.quality()

    assert found.tokens == 50
    assert found.kl == pytest.approx(kl.mean())
    assert found.kl_standard_error == pytest.approx(kl.std() / 50**0.5)
    assert found.kl_p99 == pytest.approx(np.quantile(kl, 0.99))
    assert found.same_top_token == (base.argmax(-1) == other.argmax(-1)).mean()


def test_a_window_in_pieces_gives_what_one_prompt_gives(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_random_model(path)
    window = [int(token) for token in np.random.default_rng(2).integers(0, 320, 150)]
    executor = opened(path, pages_of(window))

    sizes = [len(piece) for piece in logits_in_pieces(executor, window)]
    logits = window_logits(executor, window)

    assert sizes == [64, 64, 22]
    assert logits.shape == (150, TINY_CONFIG.vocabulary)
    assert (window_logits(executor, window[:90]) == logits[:90]).all()


def test_a_model_is_nearer_to_its_8_bits_than_to_its_4(tmp_path: Path) -> None:
    windows = windows_of(list(range(200)), 64)
    found = {}
    for type in (TensorType.F32, TensorType.Q8_0, TensorType.Q4_0):
        write_random_model(tmp_path / f"{type.name}.gguf", type=type, seed=3)
    seen: list[None] = []
    for type in (TensorType.F32, TensorType.Q8_0, TensorType.Q4_0):
        base = opened(tmp_path / "F32.gguf", 4)
        other = opened(tmp_path / f"{type.name}.gguf", 4)
        found[type] = compare(base, other, windows, lambda: seen.append(None))

    assert len(seen) == 9
    assert found[TensorType.F32].kl == 0
    assert found[TensorType.F32].same_top_token == 1
    assert 0 < found[TensorType.Q8_0].kl < found[TensorType.Q4_0].kl / 10


def test_the_gate_passes_what_is_within_both_limits_and_says_why() -> None:
    verdict = GATE.judge(quality(0.05, 0.9))

    assert verdict.passed
    assert verdict.explanation == (
        "KL divergence 0.05000 ± 0.00100 nats is within 0.05; "
        "the same top token at 90.0% of 100 places reaches 90.0%"
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (quality(kl=0.06), "is above 0.05"),
        (quality(same=0.85), "is below 90.0%"),
        (quality(kl=math.nan), "is above 0.05"),
    ],
)
def test_the_gate_fails_what_is_beyond_a_limit_and_says_which(found: Quality, said: str) -> None:
    verdict = GATE.judge(found)

    assert not verdict.passed
    assert said in verdict.explanation


def test_windows_are_whole_and_a_short_text_is_one() -> None:
    assert windows_of([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4]]
    assert windows_of([1, 2], 5) == [[1, 2]]


def test_the_calibration_text_comes_with_the_package() -> None:
    text = calibration_text()

    assert 8_000 < len(text.encode()) < 24_000
    assert all(kind in text for kind in ("def ", "SELECT", '"You', "Der ", "今天"))

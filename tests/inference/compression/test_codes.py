import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenworks.inference.compression.codes import CODES, Code, Factors, encode, fit
from tokenworks.inference.models.quantisation import ENCODED, dequantise, quantise
from tokenworks.inference.models.tensors import TensorType

EACH = pytest.mark.parametrize("code", CODES.values(), ids=lambda code: code.type.name)


def drawn(seed: int, rows: int = 7, size: float = 0.1) -> np.ndarray:
    """Groups of weights [32, rows], some of them lopsided, some with one that stands out."""
    random = np.random.default_rng(seed)
    weights = random.normal(random.normal(0, size, rows), size, (32, rows))
    weights[random.integers(32), ::3] *= 8
    return weights.astype(np.float32)


def squared_error(code: Code, weights: np.ndarray, importance: np.ndarray) -> np.ndarray:
    factors = fit(code, weights, importance)
    lost = factors.values(factors.quants(code, weights)) - weights
    return (importance[:, None] * lost**2).sum(0)


@EACH
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_is_encoded_is_decoded_to_the_same_numbers_bit_for_bit(code: Code, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, groups = int(random.integers(1, 6)), int(random.integers(1, 4))
    quants = random.integers(code.low, code.high + 1, (32 * groups, rows)).astype(np.float32)
    factors = []
    for _ in range(groups):
        scale = random.normal(0, 0.1, rows).astype(np.float16).astype(np.float32)
        least = random.normal(0, 0.1, rows).astype(np.float16).astype(np.float32)
        factors.append(Factors(scale, least if code.has_least else np.zeros_like(least)))

    raw = encode(code, quants, factors)

    decoded = dequantise(raw.reshape(-1), code.type, (rows, 32 * groups))
    for number, one in enumerate(factors):
        group = slice(32 * number, 32 * number + 32)
        assert (one.values(quants[group]) == decoded[:, group].T).all()


@EACH
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_quants_are_whole_and_within_the_code_and_factors_fit_float16(
    code: Code, seed: int
) -> None:
    weights = drawn(seed)

    factors = fit(code, weights, np.ones(32, np.float32))
    quants = factors.quants(code, weights)

    assert (quants == np.rint(quants)).all()
    assert quants.min() >= code.low
    assert quants.max() <= code.high
    for values in (factors.scale, factors.least):
        assert (values == values.astype(np.float16)).all()


@pytest.mark.parametrize("type", [type for type in CODES if type in ENCODED], ids=lambda t: t.name)
def test_a_searched_scale_loses_less_than_ggml_s_rule(type: TensorType) -> None:
    weights = drawn(1, rows=400)
    standard = dequantise(quantise(weights.T, type), type, (400, 32)).T

    searched = squared_error(CODES[type], weights, np.ones(32, np.float32))

    assert searched.sum() <= ((standard - weights) ** 2).sum()


@pytest.mark.parametrize("type", [TensorType.Q4_0, TensorType.Q4_1, TensorType.Q5_0])
def test_what_matters_more_is_met_better(type: TensorType) -> None:
    code, weights = CODES[type], drawn(2, rows=300)
    importance = np.ones(32, np.float32)
    importance[:4] = 1000

    factors, even = fit(code, weights, importance), fit(code, weights, np.ones(32, np.float32))

    def error_there(its: Factors) -> float:
        there = weights[:4]
        return float(((its.values(its.quants(code, there)) - there) ** 2).sum())

    assert error_there(factors) < 0.8 * error_there(even)


@EACH
def test_more_bits_lose_less(code: Code) -> None:
    smaller = [other for other in CODES.values() if other.bits < code.bits]
    weights, importance = drawn(3, rows=200), np.ones(32, np.float32)
    mine = squared_error(code, weights, importance).sum()

    assert all(mine < squared_error(other, weights, importance).sum() for other in smaller)


@EACH
def test_groups_of_one_value_and_of_zeros_are_met(code: Code) -> None:
    weights = np.zeros((32, 3), np.float32)
    weights[:, 1], weights[:, 2] = 0.25, -3.0

    factors = fit(code, weights, np.ones(32, np.float32))

    np.testing.assert_allclose(factors.values(factors.quants(code, weights)), weights, rtol=1e-3)


@EACH
def test_weights_as_large_as_float16_goes_are_met(code: Code) -> None:
    weights = np.full((32, 1), 65504.0, np.float32)

    factors = fit(code, weights, np.ones(32, np.float32))

    np.testing.assert_allclose(factors.values(factors.quants(code, weights)), weights, rtol=1e-3)

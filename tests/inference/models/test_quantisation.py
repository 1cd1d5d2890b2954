"""The block formats, held to their definition and to their error bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tokenworks.inference.compression.codes import CODES
from tokenworks.inference.models.assembling import ASSEMBLED, assemble
from tokenworks.inference.models.quantisation import dequantise, quantise
from tokenworks.inference.models.tensors import TensorType

PROPERTY = settings(max_examples=60, deadline=None)
BLOCKS = (TensorType.Q8_0, TensorType.Q4_0, TensorType.Q4_1)

weights = arrays(
    np.float32, (2, 64), elements=st.floats(-100, 100, width=32, allow_subnormal=False)
)


def round_trip(values: NDArray[np.float32], type: TensorType) -> NDArray[np.float32]:
    return dequantise(quantise(values, type), type, values.shape)


def scalar_block(raw: bytes, type: TensorType) -> list[float]:
    """One block decoded weight by weight, as the format's definition reads."""
    scale = float(np.frombuffer(raw[:2], "<f2")[0])
    if type is TensorType.Q8_0:
        return [scale * (byte - 256 if byte > 127 else byte) for byte in raw[2:]]
    packed = raw[2:] if type is TensorType.Q4_0 else raw[4:]
    nibbles = [byte & 15 for byte in packed] + [byte >> 4 for byte in packed]
    if type is TensorType.Q4_0:
        return [scale * (nibble - 8) for nibble in nibbles]
    low = float(np.frombuffer(raw[2:4], "<f2")[0])
    return [scale * nibble + low for nibble in nibbles]


@PROPERTY
@given(type=st.sampled_from(BLOCKS), data=st.data())
def test_blocks_decode_as_the_format_defines(type: TensorType, data: st.DataObject) -> None:
    payload = data.draw(st.binary(min_size=type.block_bytes, max_size=type.block_bytes))
    scales = np.array([0.125, -3.5], "<f2").tobytes()
    head = 4 if type is TensorType.Q4_1 else 2
    raw = scales[:head] + payload[head:]

    decoded = dequantise(np.frombuffer(raw, np.uint8), type, (32,))

    assert decoded.tolist() == scalar_block(raw, type)


@PROPERTY
@given(values=weights)
def test_quantising_errs_by_at_most_the_formats_step(values: NDArray[np.float32]) -> None:
    blocks = values.reshape(-1, 32)
    largest = np.abs(blocks).max(axis=1)
    span = blocks.max(axis=1) - blocks.min(axis=1)
    half = 2.0**-11  # relative rounding of the f16 scale
    # Q4_0 reaches -8 on one side but only 7 on the other, so an opposite extreme errs by a step.
    bounds = {
        TensorType.Q8_0: largest / 127 * 0.5 + largest * half,
        TensorType.Q4_0: largest / 8 + largest * half,
        TensorType.Q4_1: span / 15 * 0.5 + (span + largest) * half,
    }
    for type, bound in bounds.items():
        error = np.abs(round_trip(values, type) - values).reshape(-1, 32).max(axis=1)
        assert (error <= bound * 1.01 + 1e-5).all(), type.name


@PROPERTY
@given(type=st.sampled_from(BLOCKS), scale=st.integers(-6, 6), data=st.data())
def test_values_that_a_format_holds_survive_exactly(
    type: TensorType, scale: int, data: st.DataObject
) -> None:
    levels = {TensorType.Q8_0: (-127, 127), TensorType.Q4_0: (-8, 7), TensorType.Q4_1: (0, 15)}
    low, high = levels[type]
    extremes = [low, high] if type is not TensorType.Q4_0 else [low]
    drawn = data.draw(
        st.lists(st.integers(low, high), min_size=32 - len(extremes), max_size=32 - len(extremes))
    )
    values = np.array(extremes + drawn, np.float32) * np.float32(2.0**scale)

    np.testing.assert_array_equal(round_trip(values, type), values)


@PROPERTY
@given(values=arrays(np.float16, (3, 5), elements=st.floats(width=16)))
def test_half_precision_survives_f16_and_f32(values: NDArray[np.float16]) -> None:
    for type in (TensorType.F16, TensorType.F32):
        decoded = round_trip(values.astype(np.float32), type)
        np.testing.assert_array_equal(decoded, values.astype(np.float32))


@PROPERTY
@given(value=st.floats(width=32))
def test_bf16_is_the_nearest_of_its_neighbours(value: float) -> None:
    array = np.array([value], np.float32)

    decoded = round_trip(array, TensorType.BF16)

    if np.isnan(value):
        assert np.isnan(decoded[0])
        return
    below = (array.view(np.uint32) >> 16 << 16).view(np.float32)
    above = ((array.view(np.uint32) >> 16) + 1 << 16).view(np.float32)
    assert decoded[0] in (below[0], above[0])
    if np.isfinite(decoded[0]) and np.isfinite(above[0]):
        error = abs(float(decoded[0]) - value)
        assert error <= min(abs(float(below[0]) - value), abs(float(above[0]) - value))


def test_bf16_rounds_ties_to_even() -> None:
    ties = np.array([0x3F808000, 0x3F818000], np.uint32).view(np.float32)

    encoded = quantise(ties, TensorType.BF16).view("<u2")

    assert encoded.tolist() == [0x3F80, 0x3F82]


@pytest.mark.parametrize("type", BLOCKS, ids=lambda type: type.name)
def test_a_block_of_zeros_stays_zero(type: TensorType) -> None:
    assert not round_trip(np.zeros((1, 32), np.float32), type).any()


@pytest.mark.parametrize("type", BLOCKS, ids=lambda type: type.name)
def test_what_a_format_cannot_hold_is_refused(type: TensorType) -> None:
    with pytest.raises(ValueError, match="blocks"):
        quantise(np.zeros((4, 33), np.float32), type)
    with pytest.raises(ValueError, match="not finite"):
        quantise(np.full((1, 32), np.inf, np.float32), type)


@PROPERTY
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("type", ASSEMBLED, ids=lambda type: type.name)
def test_assembled_blocks_decode_to_the_numbers_they_are_made_of(
    type: TensorType, seed: int
) -> None:
    random = np.random.default_rng(seed)
    code = CODES[type]
    quants = random.integers(code.low, code.high + 1, (5, 32)).astype(np.int8)
    scale, least = random.normal(size=(2, 5, 1)).astype(np.float16).astype(np.float32)

    decoded = dequantise(assemble(type, quants, scale, least), type, (5, 32))

    offset = least if code.has_least else np.float32(0)
    np.testing.assert_array_equal(decoded, quants * scale + offset)


def test_what_has_no_such_blocks_is_not_assembled() -> None:
    with pytest.raises(ValueError, match="Q6_K can be read"):
        assemble(TensorType.Q6_K, np.zeros((1, 32), np.int8), np.ones((1, 1), np.float32))

"""What a type runs as is what it is packed as, and as near as is said."""

import numpy as np
import pytest

from blocks import some_tensor
from panels import panel_weights
from tokenworks.inference import _kernels
from tokenworks.inference.models.panel_format import GroupFormat, matrix_form, panel_format
from tokenworks.inference.models.quantisation import dequantise
from tokenworks.inference.models.tensors import TensorType

HALF = 2.0**-11  # relative rounding to float16
SHAPE = (6, 512)


@pytest.mark.parametrize("type", TensorType, ids=lambda type: type.name)
def test_what_is_packed_is_as_near_as_its_form_says(type: TensorType) -> None:
    raw = some_tensor(type, SHAPE)
    values = dequantise(raw, type, SHAPE).reshape(-1, 32)

    packed = _kernels.panels("portable", type.name, raw, *SHAPE)

    weights = panel_weights(packed, panel_format(type, SHAPE[1]), SHAPE).reshape(-1, 32)
    error = np.abs(weights - values)
    largest = np.abs(values).max(axis=1, keepdims=True)
    match matrix_form(type, SHAPE[1]).split(", ")[1]:
        case "exact":
            assert not error.any()
        case "scales rounded":
            assert error.any()
            assert (error <= (2 * largest + np.ptp(values)) * HALF).all()
        case _:
            assert error.any()
            assert (error <= largest * (1 / 254 + 2 * HALF)).all()


@pytest.mark.parametrize("type", TensorType, ids=lambda type: type.name)
@pytest.mark.parametrize(("wanted", "steps"), [("q4", 15), ("q6", 62), ("q8", 250)])
def test_what_is_rounded_to_a_wanted_format_is_as_near_as_its_bits_allow(
    type: TensorType, wanted: GroupFormat, steps: int
) -> None:
    raw = some_tensor(type, SHAPE)
    values = dequantise(raw, type, SHAPE).reshape(-1, 32)
    format = panel_format(type, SHAPE[1], wanted)

    packed = _kernels.panels("portable", type.name, raw, *SHAPE, wanted)

    assert len(packed) <= len(_kernels.panels("portable", type.name, raw, *SHAPE))
    weights = panel_weights(packed, format, SHAPE).reshape(-1, 32)
    # Half a step, which an error drawn evenly from it exceeds in no mean square.
    width = np.ptp(values, axis=1) if wanted == "q4" else 2 * np.abs(values).max(axis=1)
    most = width / steps / 2 / 3**0.5
    own = format == panel_format(type, SHAPE[1])
    assert ((weights - values) ** 2).mean() <= (most**2).mean() or own
    assert ("rounded" in matrix_form(type, SHAPE[1], wanted)) >= (not own)


def test_a_wanted_format_never_takes_more_than_the_types_own() -> None:
    assert panel_format(TensorType.Q4_1, 64, "q6") == "q4"
    assert panel_format(TensorType.Q5_0, 64, "q8") == "q6"
    assert panel_format(TensorType.Q8_0, 64, "q6") == "q6"
    assert panel_format(TensorType.Q3_K, 256, "q6") == "q6"
    assert panel_format(TensorType.F32, 72, "q4") == "bf16"


def test_floats_in_rows_of_no_whole_groups_are_bf16() -> None:
    raw = some_tensor(TensorType.F32, (6, 72))

    packed = _kernels.panels("portable", "F32", raw, 6, 72)

    assert panel_format(TensorType.F32, 72) == "bf16"
    values = dequantise(raw, TensorType.F32, (6, 72))
    assert (np.abs(panel_weights(packed, "bf16", (6, 72)) - values) <= np.abs(values) / 256).all()


def test_only_what_is_rounded_says_so() -> None:
    assert matrix_form(TensorType.Q4_1, 64) == "4-bit, exact"
    assert matrix_form(TensorType.Q5_0, 64) == "6-bit, exact"
    assert matrix_form(TensorType.Q8_0, 64, "q6") == "6-bit, rounded"
    assert matrix_form(TensorType.Q4_1, 64, "q6") == "4-bit, exact"
    assert matrix_form(TensorType.Q4_K, 256) == "4-bit, scales rounded"
    assert matrix_form(TensorType.Q6_K, 256) == "8-bit, rounded"
    assert matrix_form(TensorType.F32, 64) == "8-bit, rounded"
    assert matrix_form(TensorType.F32, 72) == "bf16, rounded"

"""What a type runs as is what it is packed as, and as near as is said."""

import numpy as np
import pytest

from blocks import some_tensor
from panels import panel_weights
from tokenworks.inference import _kernels
from tokenworks.inference.models.panel_format import matrix_form, panel_format
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


def test_floats_in_rows_of_no_whole_groups_are_bf16() -> None:
    raw = some_tensor(TensorType.F32, (6, 72))

    packed = _kernels.panels("portable", "F32", raw, 6, 72)

    assert panel_format(TensorType.F32, 72) == "bf16"
    values = dequantise(raw, TensorType.F32, (6, 72))
    assert (np.abs(panel_weights(packed, "bf16", (6, 72)) - values) <= np.abs(values) / 256).all()


def test_only_what_is_rounded_says_so() -> None:
    assert matrix_form(TensorType.Q4_1, 64) == "4-bit, exact"
    assert matrix_form(TensorType.Q5_0, 64) == "8-bit, exact"
    assert matrix_form(TensorType.Q4_K, 256) == "4-bit, scales rounded"
    assert matrix_form(TensorType.Q6_K, 256) == "8-bit, rounded"
    assert matrix_form(TensorType.F32, 64) == "8-bit, rounded"
    assert matrix_form(TensorType.F32, 72) == "bf16, rounded"

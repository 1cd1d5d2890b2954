"""What the kernels are given for a tensor is the tensor, as near as is promised."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from blocks import READ_ONLY, random_blocks
from tokenworks.inference.models.kernel_input import (
    embedding_form,
    embedding_input,
    matrix_form,
    matrix_input,
)
from tokenworks.inference.models.quantisation import ENCODED, dequantise, quantise
from tokenworks.inference.models.tensors import TensorType

HALF = 2.0**-11  # relative rounding to float16
SHAPE = (6, 512)


def some(type: TensorType, shape: tuple[int, int] = SHAPE) -> NDArray[np.uint8]:
    random = np.random.default_rng(int(type))
    if type in READ_ONLY:
        return random_blocks(type, shape, 0.1, random)
    return quantise(random.normal(0, 0.1, shape), type)


@pytest.mark.parametrize("type", ENCODED, ids=lambda type: type.name)
def test_what_the_kernels_read_is_not_copied(type: TensorType) -> None:
    raw = some(type)

    for given, data in (matrix_input(raw, type, SHAPE), embedding_input(raw, type, SHAPE)):
        assert given is type
        assert data is raw


@pytest.mark.parametrize("type", READ_ONLY, ids=lambda type: type.name)
def test_all_else_becomes_what_they_read_as_near_as_its_form_says(type: TensorType) -> None:
    raw = some(type)
    values = dequantise(raw, type, SHAPE)
    groups = np.abs(values).reshape(-1, 32)
    forms = {
        matrix_form(type, SHAPE[-1]): matrix_input(raw, type, SHAPE),
        embedding_form(type): embedding_input(raw, type, SHAPE),
    }
    for form, (given, data) in forms.items():
        assert given in ENCODED
        assert data.nbytes == given.nbytes(SHAPE)
        error = np.abs(dequantise(data, given, SHAPE) - values)
        if form.endswith("exact") or given is TensorType.F32:
            assert not error.any(), form
        elif form.endswith("scales rounded"):
            spread = 2 * groups.max(axis=1, keepdims=True) + np.ptp(values)
            assert (error.reshape(-1, 32) <= spread * HALF).all(), form
        else:
            assert form == "F16, rounded"
            assert (error <= np.abs(values) * HALF + 2.0**-25).all()


def test_only_what_is_rounded_says_so() -> None:
    assert matrix_form(TensorType.Q4_1, 64) == "4-bit, exact"
    assert matrix_form(TensorType.Q5_0, 64) == "8-bit, exact"
    assert matrix_form(TensorType.Q4_K, 256) == "4-bit, scales rounded"
    assert matrix_form(TensorType.Q6_K, 256) == "8-bit, rounded"
    assert matrix_form(TensorType.F32, 64) == "8-bit, rounded"
    assert matrix_form(TensorType.F32, 72) == "bf16, rounded"
    assert embedding_form(TensorType.Q6_K) == "F16, rounded"
    assert embedding_form(TensorType.Q5_0) == "Q8_0, exact"


@pytest.mark.parametrize("type", READ_ONLY, ids=lambda type: type.name)
def test_a_large_tensor_takes_little_more_memory_than_its_result(type: TensorType) -> None:
    shape = (4096, 1024)
    raw = some(type, shape)
    for convert in (matrix_input, embedding_input):
        tracemalloc.start()
        try:
            _, data = convert(raw, type, shape)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert data.nbytes <= peak < data.nbytes + (6 << 20), convert

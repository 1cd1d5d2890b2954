"""What the native kernels are given for a tensor: as it is stored, or repacked into what they read.

They compute with groups of 32 weights: 4 bits with a scale and a minimum, or 8 bits with a scale,
both float16. A format whose groups are of that kind keeps its quants; the others become float32,
which the kernels round to 8-bit groups. Large tensors are repacked part by part, so that nothing
but the result is large.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from tokenworks.inference.models.factors import Bytes, Factors, cut, joined, take_apart
from tokenworks.inference.models.quantisation import parts
from tokenworks.inference.models.tensors import TensorType

_GROUP: Final = 32  # kGroup of the kernels
_READ_BY_KERNELS: Final = (
    *(TensorType.F32, TensorType.F16, TensorType.BF16),
    *(TensorType.Q8_0, TensorType.Q4_0, TensorType.Q4_1),
)
_KEEPS_QUANTS: Final = {
    TensorType.Q5_0: TensorType.Q8_0,
    TensorType.IQ4_NL: TensorType.Q8_0,
    TensorType.IQ4_XS: TensorType.Q8_0,
    TensorType.Q4_K: TensorType.Q4_1,
}
_SCALES_ROUNDED: Final = (TensorType.IQ4_XS, TensorType.Q4_K)  # products, too long for a float16


def matrix_input(raw: Bytes, type: TensorType, shape: tuple[int, ...]) -> tuple[TensorType, Bytes]:
    """Type and bytes to hand to the kernels for a matrix [out, in] that they multiply with.

    The bytes are `raw` itself where the kernels read its type.
    """
    return _as(matrix_type(type), raw, type, shape)


def embedding_input(
    raw: Bytes, type: TensorType, shape: tuple[int, ...]
) -> tuple[TensorType, Bytes]:
    """The same for the embedding, of which the kernels read rows for as long as they run.

    What would be float32 is float16, since it stays: half the memory, and a far smaller error than
    that of any format it is used for.
    """
    return _as(_embedding_type(type), raw, type, shape)


def matrix_form(type: TensorType, inputs: int) -> str:
    """In words, what the kernels compute with for a matrix of `inputs` columns, and how near."""
    given = matrix_type(type)
    if given in (TensorType.Q4_0, TensorType.Q4_1):
        return f"4-bit, {_nearness(type)}"
    if given is TensorType.Q8_0:
        return f"8-bit, {_nearness(type)}"
    return "8-bit, rounded" if inputs % _GROUP == 0 else "bf16, rounded"


def embedding_form(type: TensorType) -> str:
    """In words, what the kernels read the rows of an embedding from, and how near."""
    given = _embedding_type(type)
    if given is TensorType.F16 and type is not given:
        return "F16, rounded"
    return f"{given.name}, {_nearness(type)}"


def matrix_type(type: TensorType) -> TensorType:
    """The type that the kernels are handed for a matrix of this type."""
    return type if type in _READ_BY_KERNELS else _KEEPS_QUANTS.get(type, TensorType.F32)


def _embedding_type(type: TensorType) -> TensorType:
    return type if type in _READ_BY_KERNELS else _KEEPS_QUANTS.get(type, TensorType.F16)


def _nearness(type: TensorType) -> str:
    return "scales rounded" if type in _SCALES_ROUNDED else "exact"


def _as(
    given: TensorType, raw: Bytes, type: TensorType, shape: tuple[int, ...]
) -> tuple[TensorType, Bytes]:
    if given is type:
        return type, raw
    packed = np.empty(given.nbytes(shape), np.uint8)
    end = 0
    with np.errstate(all="ignore"):  # a strange file may hold infinities; that is its business
        for blocks in parts(raw, type):
            piece = _PACK[given](take_apart(blocks, type)).reshape(-1)
            packed[end : end + piece.size] = piece
            end += piece.size
    return given, packed


def _pack_f32(factors: Factors) -> Bytes:
    return factors.weights().astype("<f4", copy=False).view(np.uint8)


def _pack_f16(factors: Factors) -> Bytes:
    return factors.weights().astype("<f2").view(np.uint8)


def _pack_q8_0(factors: Factors) -> Bytes:
    return joined([factors.scale.astype("<f2"), factors.quants])


def _pack_q4_1(factors: Factors) -> Bytes:
    assert factors.minimum is not None
    scale, least = factors.scale.astype("<f2"), (-factors.minimum).astype("<f2")
    quants = factors.quants.view(np.uint8).reshape(-1, _GROUP)
    nibbles = cut(quants, 0, 16) | cut(quants, 16, 32) << 4
    return joined([scale, least, nibbles.reshape(*scale.shape[:2], 16)])


_PACK: Final[dict[TensorType, Callable[[Factors], Bytes]]] = {
    TensorType.F32: _pack_f32,
    TensorType.F16: _pack_f16,
    TensorType.Q8_0: _pack_q8_0,
    TensorType.Q4_1: _pack_q4_1,
}

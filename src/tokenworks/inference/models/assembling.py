"""Puts ggml's blocks of 32 weights together from whole numbers and scales.

The inverse of what `quantisation` and `factors` read. A nibble holds a quant counted from the
lowest; low nibbles are weights 0-15, high ones 16-31. Source: ggml, ggml-common.h (`block_*`).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.models.factors import Bytes, Floats, Quants
from tokenworks.inference.models.tensors import TensorType

ASSEMBLED: Final = (TensorType.Q4_0, TensorType.Q4_1, TensorType.Q5_0, TensorType.Q8_0)


def assemble(type: TensorType, quants: Quants, scale: Floats, least: Floats | None = None) -> Bytes:
    """Blocks, uint8 [blocks, type.block_bytes], of a type in ASSEMBLED.

    quants [blocks, 32], in Q4_0 from -8 to 7, in Q4_1 from 0 to 15, in Q5_0 from -16 to 15;
    scale, and in Q4_1 least, [blocks, 1], are rounded to float16.
    """
    scales = half_bytes(scale)
    match type:
        case TensorType.Q4_0:
            return np.hstack([scales, _nibbles(quants + np.int8(8))])
        case TensorType.Q4_1:
            assert least is not None
            return np.hstack([scales, half_bytes(least), _nibbles(quants)])
        case TensorType.Q5_0:
            counted = (quants + np.int8(16)).view(np.uint8)
            fifths = np.packbits(counted >> 4, axis=1, bitorder="little")
            return np.hstack([scales, fifths, _nibbles(counted & 0xF)])
        case TensorType.Q8_0:
            return np.hstack([scales, quants.view(np.uint8)])
        case _:
            raise ValueError(f"{type.name} can be read, but not put together")


def half_bytes(values: Floats) -> Bytes:
    """As float16: uint8 [.., 2 * n]."""
    with np.errstate(over="ignore"):  # beyond 65504 is infinity in f16
        return values.astype("<f2").view(np.uint8)


def _nibbles(quants: NDArray[np.integer]) -> Bytes:
    counted = quants.astype(np.uint8)
    return np.asarray(counted[:, :16] | (counted[:, 16:] << 4), dtype=np.uint8)

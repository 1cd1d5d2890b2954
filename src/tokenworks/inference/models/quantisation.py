"""Encodes and decodes ggml's block formats in plain numpy: the definition everything is held to.

A block is 32 consecutive weights of a row. Q8_0: f16 scale d, 32 x int8 q; weight = d*q.
Q4_0: f16 d, 16 bytes of nibbles; weight = d*(q-8). Q4_1: f16 d, f16 minimum m, 16 bytes;
weight = d*q + m. Low nibbles are weights 0-15 of the block, high nibbles 16-31. The other formats
are read only, by `factors`.
Source: ggml, ggml-quants.c (`dequantize_row_*`, `quantize_row_*_ref`).
"""

from collections.abc import Callable, Iterator
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.models.assembling import assemble, half_bytes
from tokenworks.inference.models.factors import (
    Bytes,
    Floats,
    cut,
    halves,
    nibbles,
    take_apart,
)
from tokenworks.inference.models.tensors import TensorType

_PART_WEIGHTS: Final = 1 << 18  # few enough that what a part needs on the way stays in cache


def dequantise(raw: Bytes, type: TensorType, shape: tuple[int, ...]) -> Floats:
    """The values of an encoded tensor: float32 of `shape`, a new array.

    `raw` is uint8 [type.nbytes(shape)]. The result is exact: every format's values are computed
    in float32 as ggml does. Beside the result, little memory is needed.
    """
    values = np.empty(prod(shape), np.float32)
    end = 0
    with np.errstate(all="ignore"):  # a strange file may hold infinities; that is its business
        for blocks in parts(raw, type):
            piece = _decode(blocks, type).reshape(-1)
            values[end : end + piece.size] = piece
            end += piece.size
    return values.reshape(shape)


def parts(raw: Bytes, type: TensorType) -> Iterator[Bytes]:
    """The blocks of an encoded tensor, a bounded number at a time: uint8 [blocks, block_bytes]."""
    blocks = raw.reshape(-1, type.block_bytes)
    step = _PART_WEIGHTS // type.block_weights
    for start in range(0, len(blocks), step):
        yield blocks[start : start + step]


def quantise(array: NDArray[np.floating], type: TensorType) -> Bytes:
    """Encode a tensor whose last dimension holds whole blocks; returns uint8 [nbytes].

    Blocks are rounded as ggml's reference encoders round them. Raises ValueError for types that
    are not in ENCODED, rows that do not divide into blocks and values that are not finite.
    """
    if type not in ENCODED:
        raise ValueError(f"{type.name} can be read, but not written")
    values = np.ascontiguousarray(array, dtype=np.float32)
    if values.shape[-1] % type.block_weights:
        raise ValueError(
            f"rows of {values.shape[-1]} weights do not divide into {type.name} blocks"
        )
    if type in _ENCODE_BLOCKS:
        if not np.isfinite(values).all():
            raise ValueError(f"{type.name} cannot hold values that are not finite")
        encoded = _ENCODE_BLOCKS[type](values.reshape(-1, type.block_weights))
    else:
        encoded = _ENCODE_PLAIN[type](values)
    return np.frombuffer(encoded.tobytes(), np.uint8)


def _decode(blocks: Bytes, type: TensorType) -> Floats:
    if type in _DECODE:
        return _DECODE[type](blocks)
    return take_apart(blocks, type).weights()


def _from_f32(blocks: Bytes) -> Floats:
    return blocks.view("<f4").astype(np.float32)


def _to_f32(values: Floats) -> Bytes:
    return values.astype("<f4").view(np.uint8)


def _from_f16(blocks: Bytes) -> Floats:
    return blocks.view("<f2").astype(np.float32)


def _from_bf16(blocks: Bytes) -> Floats:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _to_bf16(values: Floats) -> Bytes:
    """Round to nearest, ties to even; a NaN stays a quiet NaN."""
    bits = values.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    quiet = (bits >> 16) | 64
    return np.where(np.isnan(values), quiet, rounded).astype("<u2").view(np.uint8)


def _from_q8_0(blocks: Bytes) -> Floats:
    return halves(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _to_q8_0(blocks: Floats) -> Bytes:
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    quants = _round_away(blocks * _inverse(scale)).astype(np.int8)
    return assemble(TensorType.Q8_0, quants, scale)


def _from_q4_0(blocks: Bytes) -> Floats:
    return halves(blocks, 0) * (nibbles(cut(blocks, 2, 18)).astype(np.float32) - 8)


def _to_q4_0(blocks: Floats) -> Bytes:
    """The weight of largest magnitude becomes -8 exactly, so the scale has its opposite sign."""
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    scale = largest / np.float32(-8)
    quants = np.minimum(blocks * _inverse(scale) + np.float32(8.5), 15).astype(np.int8)
    return assemble(TensorType.Q4_0, quants - np.int8(8), scale)


def _from_q4_1(blocks: Bytes) -> Floats:
    return halves(blocks, 0) * nibbles(cut(blocks, 4, 20)) + halves(blocks, 2)


def _to_q4_1(blocks: Floats) -> Bytes:
    low = blocks.min(axis=1, keepdims=True)
    scale = (blocks.max(axis=1, keepdims=True) - low) / np.float32(15)
    quants = np.minimum((blocks - low) * _inverse(scale) + np.float32(0.5), 15).astype(np.int8)
    return assemble(TensorType.Q4_1, quants, scale, low)


def _inverse(scale: Floats) -> Floats:
    """1 / scale, or 0 where the scale is so small that its f16 is 0 anyway."""
    return np.divide(1, scale, out=np.zeros_like(scale), where=np.abs(scale) > 1e-30)


def _round_away(values: Floats) -> Floats:
    """Round half away from zero, as C's roundf does."""
    exact = values.astype(np.float64)  # in float32, 0.49999997 + 0.5 would already be 1
    return np.trunc(exact + np.copysign(0.5, exact)).astype(np.float32)


_DECODE: Final[dict[TensorType, Callable[[Bytes], Floats]]] = {
    TensorType.F32: _from_f32,
    TensorType.F16: _from_f16,
    TensorType.BF16: _from_bf16,
    TensorType.Q8_0: _from_q8_0,
    TensorType.Q4_0: _from_q4_0,
    TensorType.Q4_1: _from_q4_1,
}
_ENCODE_PLAIN: Final[dict[TensorType, Callable[[Floats], Bytes]]] = {
    TensorType.F32: _to_f32,
    TensorType.F16: half_bytes,
    TensorType.BF16: _to_bf16,
}
_ENCODE_BLOCKS: Final[dict[TensorType, Callable[[Floats], Bytes]]] = {
    TensorType.Q8_0: _to_q8_0,
    TensorType.Q4_0: _to_q4_0,
    TensorType.Q4_1: _to_q4_1,
}
ENCODED: Final = (*_ENCODE_PLAIN, *_ENCODE_BLOCKS)
"""The types that `quantise` writes; the others in TensorType are read only."""

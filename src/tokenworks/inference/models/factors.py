"""Takes ggml's blocks with packed scales apart into numbers; knows nothing of files or kernels.

Every group of a block is stored as whole numbers, a scale and perhaps a minimum:
weight = scale * quant - minimum, which float32 holds exactly but for the one subtraction. K-quants
are blocks of 256 weights whose groups' scales are small whole numbers themselves, under one
float16 for the block. Source: ggml, ggml-common.h (`block_*`), ggml-quants.c
(`dequantize_row_*`).
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.models.tensors import TensorType

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Quants = NDArray[np.int8]


class Factors(NamedTuple):
    """Blocks in numbers: weight = scale * quants - minimum.

    `quants` is [blocks, groups, weights of a group], `scale` and `minimum` [blocks, groups, 1];
    `minimum` is None for formats without one.
    """

    scale: Floats
    quants: Quants
    minimum: Floats | None = None

    def weights(self) -> Floats:
        """The values, [blocks, groups, weights of a group]."""
        product = self.scale * self.quants
        return product if self.minimum is None else product - self.minimum


def take_apart(blocks: Bytes, type: TensorType) -> Factors:
    """uint8 [blocks, type.block_bytes] in numbers, for the types that `quantise` does not write."""
    return _TAKE_APART[type](blocks)


def halves(blocks: Bytes, at: int) -> Floats:
    """The float16 at this byte of every block: float32 [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def nibbles(packed: Bytes) -> Bytes:
    """[…, n] bytes as […, 2n]: all low halves, then all high ones."""
    return np.concatenate([packed & 0xF, packed >> 4], axis=-1)


def _q5_0(blocks: Bytes) -> Factors:
    """f16 scale, 32 fifth bits, 16 bytes of nibbles; quants from -16."""
    return Factors(_each(halves(blocks, 0)), _one_group(_fifth_bits(blocks, 2) - np.int8(16)))


def _q5_1(blocks: Bytes) -> Factors:
    """f16 scale, f16 least weight, 32 fifth bits, 16 bytes of nibbles."""
    least = _each(halves(blocks, 2))
    return Factors(_each(halves(blocks, 0)), _one_group(_fifth_bits(blocks, 4)), -least)


def _iq4_nl(blocks: Bytes) -> Factors:
    """f16 scale, 16 bytes of nibbles that index a table of levels."""
    return Factors(_each(halves(blocks, 0)), _one_group(_LEVELS[nibbles(blocks[:, 2:])]))


def _iq4_xs(blocks: Bytes) -> Factors:
    """f16 scale, eight 6-bit scales (2 high bits each, then 4 low bits), nibbles as in IQ4_NL."""
    high = blocks[:, 2:4].view("<u2") >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    low = np.stack([blocks[:, 4:8] & 0xF, blocks[:, 4:8] >> 4], axis=-1).reshape(-1, 8)
    scales = (low | high.astype(np.uint8) << 4).astype(np.int8) - np.int8(32)
    quants = _LEVELS[nibbles(blocks[:, 8:].reshape(-1, 8, 16))]
    return Factors(_each(halves(blocks, 0) * scales), quants)


def _q2_k(blocks: Bytes) -> Factors:
    """16 bytes of scale (low) and minimum (high nibble), 64 of 2-bit quants, f16 for each."""
    packed = blocks[:, :16]
    return Factors(
        _each(halves(blocks, 80) * (packed & 0xF)),
        _two_bits(blocks[:, 16:80]).reshape(-1, 16, 16).view(np.int8),
        _each(halves(blocks, 82) * (packed >> 4)),
    )


def _q3_k(blocks: Bytes) -> Factors:
    """32 bytes of third bits, 64 of 2-bit quants, sixteen 6-bit scales in 12 bytes, f16."""
    third = blocks[:, None, :32] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    quants = _two_bits(blocks[:, 32:96]).reshape(-1, 8, 32) | third << 2
    packed = blocks[:, 96:108]
    high = _planes(packed[:, None, 8:], (0, 2, 4, 6), 3).reshape(-1, 16)
    scales = (nibbles(packed[:, :8]) | high << 4).view(np.int8) - np.int8(32)
    signed = quants.reshape(-1, 16, 16).view(np.int8) - np.int8(4)
    return Factors(_each(halves(blocks, 108) * scales), signed)


def _q4_k(blocks: Bytes) -> Factors:
    """f16 for scales, f16 for minima, eight of both in 6 bits, 128 bytes of nibbles."""
    scale, minimum = _six_bit_scales(blocks)
    return Factors(scale, _four_bits(blocks[:, 16:]).view(np.int8), minimum)


def _q5_k(blocks: Bytes) -> Factors:
    """As Q4_K, with 32 bytes of fifth bits before the nibbles."""
    scale, minimum = _six_bit_scales(blocks)
    fifth = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    return Factors(scale, (_four_bits(blocks[:, 48:]) | fifth << 4).view(np.int8), minimum)


def _q6_k(blocks: Bytes) -> Factors:
    """128 bytes of nibbles, 64 of 2 high bits, sixteen int8 scales, f16; quants from -32."""
    low = _planes(blocks[:, :128].reshape(-1, 2, 1, 64), (0, 4), 0xF).reshape(-1, 16, 16)
    high = _two_bits(blocks[:, 128:192]).reshape(-1, 16, 16)
    quants = (low | high << 4).view(np.int8) - np.int8(32)
    return Factors(_each(halves(blocks, 208) * blocks[:, 192:208].view(np.int8)), quants)


def _q8_k(blocks: Bytes) -> Factors:
    """f32 scale, 256 x int8, then sums that only ggml's own products need."""
    scale = np.ascontiguousarray(blocks[:, :4]).view("<f4").astype(np.float32)
    return Factors(_each(scale), _one_group(blocks[:, 4:260].view(np.int8)))


def _each(numbers: Floats) -> Floats:
    return numbers[:, :, None]


def _one_group(quants: Quants) -> Quants:
    return quants[:, None, :]


def _fifth_bits(blocks: Bytes, at: int) -> Quants:
    """32 quants of 5 bits: the bits for 16 lie at this byte, the nibbles after them."""
    bits = np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little")
    return (nibbles(blocks[:, at + 4 :]) | bits << 4).view(np.int8)


def _planes(packed: Bytes, shifts: tuple[int, ...], mask: int) -> Bytes:
    """[…, 1, n] bytes as […, len(shifts), n]: what lies at each shift of every byte."""
    return np.asarray(packed >> np.array(shifts, np.uint8)[:, None] & np.uint8(mask), np.uint8)


def _two_bits(packed: Bytes) -> Bytes:
    """64 bytes of a block as [blocks, 2, 4, 32]: each 32 bytes hold four planes of 2 bits."""
    return _planes(packed.reshape(-1, 2, 1, 32), (0, 2, 4, 6), 3)


def _four_bits(packed: Bytes) -> Bytes:
    """128 bytes of a block as [blocks, 8, 32]: each 32 bytes hold two groups."""
    return _planes(packed.reshape(-1, 4, 1, 32), (0, 4), 0xF).reshape(-1, 8, 32)


def _six_bit_scales(blocks: Bytes) -> tuple[Floats, Floats]:
    """Scales and minima of Q4_K and Q5_K: four of each whole, four in pieces of 4 and 2 bits."""
    first, second, pieces = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.hstack([first & 63, pieces & 0xF | first >> 6 << 4])
    minima = np.hstack([second & 63, pieces >> 4 | second >> 6 << 4])
    return _each(halves(blocks, 0) * scales), _each(halves(blocks, 2) * minima)


_LEVELS: Final = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8
)
_TAKE_APART: Final[dict[TensorType, Callable[[Bytes], Factors]]] = {
    TensorType.Q5_0: _q5_0,
    TensorType.Q5_1: _q5_1,
    TensorType.Q2_K: _q2_k,
    TensorType.Q3_K: _q3_k,
    TensorType.Q4_K: _q4_k,
    TensorType.Q5_K: _q5_k,
    TensorType.Q6_K: _q6_k,
    TensorType.Q8_K: _q8_k,
    TensorType.IQ4_NL: _iq4_nl,
    TensorType.IQ4_XS: _iq4_xs,
}

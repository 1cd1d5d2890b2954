"""Takes ggml's blocks with packed scales apart into numbers; knows nothing of files or kernels.

Every group of a block is stored as whole numbers, a scale and perhaps a minimum:
weight = scale * quant - minimum, which float32 holds exactly but for the one subtraction. K-quants
are blocks of 256 weights whose groups' scales are small whole numbers themselves, under one
float16 for the block. Source: ggml, ggml-common.h (`block_*`), ggml-quants.c
(`dequantize_row_*`).
"""

from collections.abc import Callable, Iterable, Sequence
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
        values = self.quants.astype(np.float32)  # in one run, faster than within the product
        values *= self.scale
        if self.minimum is not None:
            values -= self.minimum
        return values


def take_apart(blocks: Bytes, type: TensorType) -> Factors:
    """uint8 [blocks, type.block_bytes] in numbers, for the types that `quantise` does not write."""
    return _TAKE_APART[type](blocks)


def halves(blocks: Bytes, at: int) -> Floats:
    """The float16 at this byte of every block: float32 [blocks, 1]."""
    return blocks[:, at : at + 2].view("<f2").astype(np.float32)


def cut(blocks: Bytes, start: int, end: int) -> Bytes:
    """These bytes of every block, [blocks, end - start] in one run.

    Copied as items of that size: numpy moves such an item at once, but short rows byte by byte.
    """
    return np.ascontiguousarray(blocks[:, start:end].view(f"V{end - start}")).view(np.uint8)


def joined(pieces: Sequence[NDArray[np.generic]]) -> Bytes:
    """[…, n] of several arrays, each in one run, one after the other: uint8 […, all bytes]."""
    sizes = [piece.shape[-1] * piece.itemsize for piece in pieces]
    row = np.dtype([(f"f{index}", f"V{size}") for index, size in enumerate(sizes)])
    rows = np.empty((*pieces[0].shape[:-1], 1), row)
    for index, piece in enumerate(pieces):
        rows[f"f{index}"] = piece.view(f"V{sizes[index]}")
    return rows.view(np.uint8)


def nibbles(packed: Bytes) -> Bytes:
    """[…, n] bytes in one run as […, 2n]: all low halves, then all high ones."""
    return _planes(packed, (0, 4), 0xF).reshape(*packed.shape[:-1], -1)


def _q5_0(blocks: Bytes) -> Factors:
    """f16 scale, 32 fifth bits, 16 bytes of nibbles; quants from -16."""
    return Factors(_each(halves(blocks, 0)), _one_group(_fifth_bits(blocks, 2) - np.int8(16)))


def _q5_1(blocks: Bytes) -> Factors:
    """f16 scale, f16 least weight, 32 fifth bits, 16 bytes of nibbles."""
    least = _each(halves(blocks, 2))
    return Factors(_each(halves(blocks, 0)), _one_group(_fifth_bits(blocks, 4)), -least)


def _iq4_nl(blocks: Bytes) -> Factors:
    """f16 scale, 16 bytes of nibbles that index a table of levels."""
    return Factors(_each(halves(blocks, 0)), _one_group(_levels(nibbles(cut(blocks, 2, 18)))))


def _iq4_xs(blocks: Bytes) -> Factors:
    """f16 scale, eight 6-bit scales (2 high bits each, then 4 low bits), nibbles as in IQ4_NL."""
    high = blocks[:, 2:4].view("<u2") >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    low = np.stack([blocks[:, 4:8] & 0xF, blocks[:, 4:8] >> 4], axis=-1).reshape(-1, 8)
    scales = (low | high.astype(np.uint8) << 4).astype(np.int8) - np.int8(32)
    quants = _levels(nibbles(cut(blocks, 8, 136).reshape(-1, 8, 16)))
    return Factors(_each(halves(blocks, 0) * scales), quants)


def _q2_k(blocks: Bytes) -> Factors:
    """16 bytes of scale (low) and minimum (high nibble), 64 of 2-bit quants, f16 for each."""
    packed = blocks[:, :16]
    return Factors(
        _each(halves(blocks, 80) * (packed & 0xF)),
        _two_bits(cut(blocks, 16, 80)).reshape(-1, 16, 16).view(np.int8),
        _each(halves(blocks, 82) * (packed >> 4)),
    )


def _q3_k(blocks: Bytes) -> Factors:
    """32 bytes of third bits, 64 of 2-bit quants, sixteen 6-bit scales in 12 bytes, f16."""
    third = _planes(cut(blocks, 0, 32), range(8), 1)
    quants = _two_bits(cut(blocks, 32, 96)).reshape(-1, 8, 32) | third << 2
    packed = cut(blocks, 96, 108)
    high = _planes(cut(packed, 8, 12), (0, 2, 4, 6), 3).reshape(-1, 16)
    scales = (nibbles(cut(packed, 0, 8)) | high << 4).view(np.int8) - np.int8(32)
    signed = quants.reshape(-1, 16, 16).view(np.int8) - np.int8(4)
    return Factors(_each(halves(blocks, 108) * scales), signed)


def _q4_k(blocks: Bytes) -> Factors:
    """f16 for scales, f16 for minima, eight of both in 6 bits, 128 bytes of nibbles."""
    scale, minimum = _six_bit_scales(blocks)
    return Factors(scale, _four_bits(cut(blocks, 16, 144)).view(np.int8), minimum)


def _q5_k(blocks: Bytes) -> Factors:
    """As Q4_K, with 32 bytes of fifth bits before the nibbles."""
    scale, minimum = _six_bit_scales(blocks)
    fifth = _planes(cut(blocks, 16, 48), range(8), 1)
    return Factors(scale, (_four_bits(cut(blocks, 48, 176)) | fifth << 4).view(np.int8), minimum)


def _q6_k(blocks: Bytes) -> Factors:
    """128 bytes of nibbles, 64 of 2 high bits, sixteen int8 scales, f16; quants from -32."""
    low = _planes(cut(blocks, 0, 128).reshape(-1, 2, 64), (0, 4), 0xF).reshape(-1, 16, 16)
    high = _two_bits(cut(blocks, 128, 192)).reshape(-1, 16, 16)
    quants = (low | high << 4).view(np.int8) - np.int8(32)
    return Factors(_each(halves(blocks, 208) * blocks[:, 192:208].view(np.int8)), quants)


def _q8_k(blocks: Bytes) -> Factors:
    """f32 scale, 256 x int8, then sums that only ggml's own products need."""
    scale = np.ascontiguousarray(blocks[:, :4]).view("<f4").astype(np.float32)
    return Factors(_each(scale), _one_group(cut(blocks, 4, 260).view(np.int8)))


def _each(numbers: Floats) -> Floats:
    return numbers[:, :, None]


def _one_group(quants: Quants) -> Quants:
    return quants[:, None, :]


def _levels(numbers: Bytes) -> Quants:
    found = numbers.tobytes().translate(_LEVEL_OF_BYTE)  # several times as fast as an index
    return np.frombuffer(found, np.int8).reshape(numbers.shape)


def _fifth_bits(blocks: Bytes, at: int) -> Quants:
    """32 quants of 5 bits: the bits for 16 lie at this byte, the nibbles after them."""
    bits = np.unpackbits(cut(blocks, at, at + 4), axis=None, bitorder="little").reshape(-1, 32)
    return (nibbles(cut(blocks, at + 4, at + 20)) | bits << 4).view(np.int8)


def _planes(packed: Bytes, shifts: Iterable[int], mask: int) -> Bytes:
    """[…, n] bytes in one run as […, shifts, n]: what lies at each shift of every byte.

    n is a multiple of 4: whole words are shifted, and what comes from the next byte is masked.
    """
    words, masks = packed.view(np.uint32), np.uint32(mask * 0x01010101)
    planes = [(words >> np.uint32(shift) & masks).view(np.uint8) for shift in shifts]
    return joined(planes).reshape(*packed.shape[:-1], len(planes), packed.shape[-1])


def _two_bits(packed: Bytes) -> Bytes:
    """64 bytes of a block as [blocks, 2, 4, 32]: each 32 bytes hold four planes of 2 bits."""
    return _planes(packed.reshape(-1, 2, 32), (0, 2, 4, 6), 3)


def _four_bits(packed: Bytes) -> Bytes:
    """128 bytes of a block as [blocks, 8, 32]: each 32 bytes hold two groups."""
    return _planes(packed.reshape(-1, 4, 32), (0, 4), 0xF).reshape(-1, 8, 32)


def _six_bit_scales(blocks: Bytes) -> tuple[Floats, Floats]:
    """Scales and minima of Q4_K and Q5_K: four of each whole, four in pieces of 4 and 2 bits."""
    first, second, pieces = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.hstack([first & 63, pieces & 0xF | first >> 6 << 4])
    minima = np.hstack([second & 63, pieces >> 4 | second >> 6 << 4])
    return _each(halves(blocks, 0) * scales), _each(halves(blocks, 2) * minima)


_LEVELS: Final = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8
)
_LEVEL_OF_BYTE: Final = _LEVELS.tobytes().ljust(256, b"\0")
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

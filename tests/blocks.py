"""Random tensors of every format, also of those that Tokenworks reads and does not write."""

from hashlib import shake_256

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.models.quantisation import ENCODED, quantise
from tokenworks.inference.models.tensors import TensorType

READ_ONLY = tuple(type for type in TensorType if type not in ENCODED)
_FLOATS = {  # where a block has its float16 numbers, and the size of weights that 1 stands for
    TensorType.Q5_0: ((0,), 9),
    TensorType.Q5_1: ((0, 2), 20),
    TensorType.Q2_K: ((80, 82), 15),
    TensorType.Q3_K: ((108,), 42),
    TensorType.Q4_K: ((0, 2), 320),
    TensorType.Q5_K: ((0, 2), 640),
    TensorType.Q6_K: ((208,), 1400),
    TensorType.IQ4_NL: ((0,), 70),
    TensorType.IQ4_XS: ((0,), 1300),
}
_Q8_K_SIZE = 74  # its scale is a float32


def arbitrary_blocks(type: TensorType, count: int) -> NDArray[np.uint8]:
    """Blocks of bytes without meaning, the same everywhere; their scales are less than 2."""
    digest = shake_256(type.name.encode()).digest(count * type.block_bytes)
    blocks = np.frombuffer(digest, np.uint8).reshape(count, -1).copy()
    high = (3,) if type is TensorType.Q8_K else tuple(at + 1 for at in _FLOATS[type][0])
    blocks[:, high] &= 0xBF  # a small exponent: neither infinite nor no number
    return blocks.reshape(-1)


def random_blocks(
    type: TensorType, shape: tuple[int, ...], size: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    """A tensor of every possible quant, its weights about `size` from 0."""
    count = int(np.prod(shape)) // type.block_weights
    blocks = random.integers(0, 256, (count, type.block_bytes), dtype=np.uint8)
    if type is TensorType.Q8_K:
        scales = random.uniform(0.5, 1.5, (count, 1)) * size / _Q8_K_SIZE
        blocks[:, :4] = scales.astype("<f4").view(np.uint8)
        return blocks.reshape(-1)
    places, one = _FLOATS[type]
    for at in places:
        scales = random.uniform(0.5, 1.5, (count, 1)) * size / one
        blocks[:, at : at + 2] = scales.astype("<f2").view(np.uint8)
    return blocks.reshape(-1)


def some_tensor(type: TensorType, shape: tuple[int, ...], size: float = 0.1) -> NDArray[np.uint8]:
    """A tensor of any type, the same each time, its weights about `size` from 0."""
    random = np.random.default_rng(int(type))
    if type in READ_ONLY:
        return random_blocks(type, shape, size, random)
    return quantise(random.normal(0, size, shape), type)

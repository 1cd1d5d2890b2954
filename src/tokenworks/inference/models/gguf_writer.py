"""Writes GGUF files (version 3, little-endian)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.models.gguf import DEFAULT_ALIGNMENT, MAGIC
from tokenworks.inference.models.gguf_values import DTYPES, ValueType
from tokenworks.inference.models.tensors import TensorType
from tokenworks.store.files import atomic_writer

_VERSION: Final = 3
_WHOLE_NUMBERS: Final = (
    (ValueType.UINT32, 0, 1 << 32),
    (ValueType.INT32, -(1 << 31), 1 << 31),
    (ValueType.UINT64, 0, 1 << 64),
    (ValueType.INT64, -(1 << 63), 1 << 63),
)

Writable = bool | int | float | str | Sequence[str] | NDArray[np.generic]
"""A metadata value. Whole numbers become UINT32, or INT32 or 64 bits where they must; floats
FLOAT32; arrays keep their element type."""


@dataclass(frozen=True, slots=True)
class EncodedTensor:
    """A tensor to write: `shape` in numpy's order, `raw` uint8 [type.nbytes(shape)]."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    raw: NDArray[np.uint8]


def write_gguf(
    path: Path, metadata: Mapping[str, Writable], tensors: Iterable[EncodedTensor]
) -> None:
    """Write a model file, whole or not at all.

    Raises ValueError for a tensor whose bytes do not fit its type and shape.
    """
    tensors = list(tensors)
    with atomic_writer(path) as file:
        file.write(MAGIC + pack("<IQQ", _VERSION, len(tensors), len(metadata)))
        for key, value in metadata.items():
            file.write(_string(key) + _value(key, value))
        offset = 0
        for tensor in tensors:
            file.write(_tensor_header(tensor, offset))
            offset += _padded(tensor.raw.nbytes)
        _pad(file)
        for tensor in tensors:
            file.write(tensor.raw.tobytes())
            _pad(file)


def _tensor_header(tensor: EncodedTensor, offset: int) -> bytes:
    expected = tensor.type.nbytes(tensor.shape)
    if tensor.raw.nbytes != expected or tensor.shape[-1] % tensor.type.block_weights:
        raise ValueError(
            f"tensor {tensor.name!r} has {tensor.raw.nbytes} bytes, "
            f"but {tensor.type.name} of {tensor.shape} takes {expected}"
        )
    dimensions = tensor.shape[::-1]
    return (
        _string(tensor.name)
        + pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        + pack("<IQ", tensor.type, offset)
    )


def _value(key: str, value: Writable) -> bytes:
    if isinstance(value, str):
        return pack("<I", ValueType.STRING) + _string(value)
    if isinstance(value, np.ndarray):
        type = next((type for type, dtype in DTYPES.items() if dtype == value.dtype), None)
        if type is None:
            raise ValueError(f"metadata {key!r} is an array of {value.dtype}, which GGUF has not")
        return pack("<IIQ", ValueType.ARRAY, type, value.size) + value.tobytes()
    if isinstance(value, Sequence):
        items = b"".join(_string(item) for item in value)
        return pack("<IIQ", ValueType.ARRAY, ValueType.STRING, len(value)) + items
    if isinstance(value, bool):
        return pack("<IB", ValueType.BOOL, value)
    if isinstance(value, float):
        return pack("<If", ValueType.FLOAT32, value)
    return _whole_number(key, value)


def _whole_number(key: str, value: int) -> bytes:
    for type, low, high in _WHOLE_NUMBERS:
        if low <= value < high:
            return pack("<I", type) + value.to_bytes(
                DTYPES[type].itemsize, "little", signed=low < 0
            )
    raise ValueError(f"metadata {key!r} is {value}, which does not fit 64 bits")


def _string(text: str) -> bytes:
    data = text.encode()
    return pack("<Q", len(data)) + data


def _padded(size: int) -> int:
    return -(-size // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT


def _pad(file: BinaryIO) -> None:
    file.write(bytes(_padded(file.tell()) - file.tell()))

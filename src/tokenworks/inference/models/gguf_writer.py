"""Writes GGUF files (version 3, little-endian)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A metadata value as a GGUF file has it, type and all (`GGUF.stored_value`)."""

    raw: bytes


Writable = bool | int | float | str | Sequence[str] | NDArray[np.generic] | StoredValue
"""A metadata value. Whole numbers become UINT32, or INT32 or 64 bits where they must; floats
FLOAT32; arrays keep their element type."""


@dataclass(frozen=True, slots=True)
class NewTensor:
    """A tensor to write: `shape` in numpy's order, its last dimension whole blocks of `type`."""

    name: str
    type: TensorType
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return self.type.nbytes(self.shape)


@dataclass(frozen=True, slots=True)
class EncodedTensor:
    """A tensor to write with its bytes: `raw` uint8 [type.nbytes(shape)]."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    raw: NDArray[np.uint8]

    @property
    def header(self) -> NewTensor:
        return NewTensor(self.name, self.type, self.shape)


def write_gguf(
    path: Path, metadata: Mapping[str, Writable], tensors: Iterable[EncodedTensor]
) -> None:
    """Write a model file, whole or not at all.

    Raises ValueError for a tensor whose bytes do not fit its type and shape.
    """
    tensors = list(tensors)
    with open_gguf_writer(path, metadata, [tensor.header for tensor in tensors]) as writer:
        for tensor in tensors:
            writer.write(tensor.name, tensor.raw)


class GGUFWriter:
    """A file whose header is written. Tensors come in any order, each in pieces one after the
    other. Made by `open_gguf_writer`."""

    def __init__(self, file: BinaryIO, tensors: Sequence[NewTensor]) -> None:
        self._file = file
        self._places: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        end = file.tell()
        for tensor in tensors:
            self._places[tensor.name] = end
            self._ends[tensor.name] = end + tensor.nbytes
            end += _padded(tensor.nbytes)
        file.truncate(end)  # what nothing is written to, the padding, is zero

    def write(self, name: str, raw: NDArray[np.uint8]) -> None:
        """The next bytes of a tensor. Raises ValueError if they are more than it takes."""
        place = self._places[name]
        if place + raw.nbytes > self._ends[name]:
            raise ValueError(f"tensor {name!r} has more bytes than its type and shape take")
        self._file.seek(place)
        self._file.write(raw.data if raw.flags.c_contiguous else raw.tobytes())
        self._places[name] = place + raw.nbytes

    def check(self) -> None:
        """Raises ValueError, naming it, for a tensor that is not whole."""
        for name, place in self._places.items():
            if place != self._ends[name]:
                raise ValueError(f"tensor {name!r} lacks {self._ends[name] - place} of its bytes")


@contextmanager
def open_gguf_writer(
    path: Path, metadata: Mapping[str, Writable], tensors: Sequence[NewTensor]
) -> Iterator[GGUFWriter]:
    """Write a model file piece by piece; it appears at `path` only if the block ends well.

    Raises ValueError for rows that are not whole blocks, and if a tensor is not whole in the end.
    """
    with atomic_writer(path) as file:
        file.write(MAGIC + pack("<IQQ", _VERSION, len(tensors), len(metadata)))
        for key, value in metadata.items():
            file.write(_string(key) + _value(key, value))
        offset = 0
        for tensor in tensors:
            file.write(_tensor_header(tensor, offset))
            offset += _padded(tensor.nbytes)
        _pad(file)
        writer = GGUFWriter(file, tensors)
        yield writer
        writer.check()


def _tensor_header(tensor: NewTensor, offset: int) -> bytes:
    if tensor.shape[-1] % tensor.type.block_weights:
        raise ValueError(
            f"tensor {tensor.name!r} has rows of {tensor.shape[-1]} weights, no whole number of "
            f"blocks of {tensor.type.name}"
        )
    dimensions = tensor.shape[::-1]
    return (
        _string(tensor.name)
        + pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        + pack("<IQ", tensor.type, offset)
    )


def _value(key: str, value: Writable) -> bytes:
    if isinstance(value, StoredValue):
        return value.raw
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

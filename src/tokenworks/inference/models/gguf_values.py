"""The values of a GGUF header: scalars, strings and arrays that are decoded only on access."""

import mmap
import struct
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.malformed import Malformed

MAX_STRING_BYTES: Final = 16 << 20
MAX_STRING_ITEMS: Final = 4 << 20  # in one array; strings must be walked one by one


class ValueType(IntEnum):
    """GGUF's metadata value types, with its numbers."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


DTYPES: Final[dict[ValueType, np.dtype[np.generic]]] = {
    ValueType.UINT8: np.dtype("u1"),
    ValueType.INT8: np.dtype("i1"),
    ValueType.UINT16: np.dtype("<u2"),
    ValueType.INT16: np.dtype("<i2"),
    ValueType.UINT32: np.dtype("<u4"),
    ValueType.INT32: np.dtype("<i4"),
    ValueType.FLOAT32: np.dtype("<f4"),
    ValueType.BOOL: np.dtype("u1"),
    ValueType.UINT64: np.dtype("<u8"),
    ValueType.INT64: np.dtype("<i8"),
    ValueType.FLOAT64: np.dtype("<f8"),
}

_SCALARS: Final = {
    ValueType.UINT8: Struct("<B"),
    ValueType.INT8: Struct("<b"),
    ValueType.UINT16: Struct("<H"),
    ValueType.INT16: Struct("<h"),
    ValueType.UINT32: Struct("<I"),
    ValueType.INT32: Struct("<i"),
    ValueType.FLOAT32: Struct("<f"),
    ValueType.BOOL: Struct("<B"),
    ValueType.UINT64: Struct("<Q"),
    ValueType.INT64: Struct("<q"),
    ValueType.FLOAT64: Struct("<d"),
}
_U32: Final = _SCALARS[ValueType.UINT32]
_U64: Final = _SCALARS[ValueType.UINT64]


class LazyArray:
    """An array of the metadata, checked to lie within the file and decoded when asked for."""

    def __init__(
        self, path: Path, data: mmap.mmap, key: str, type: ValueType, length: int, position: int
    ) -> None:
        self.type = type
        self._path = path
        self._data = data
        self._key = key
        self._length = length
        self._position = position

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"<array of {self._length} {self.type.name}>"

    def strings(self) -> list[str]:
        """All items of an array of strings. Raises ModelFileError if they are not text."""
        if self.type is not ValueType.STRING:
            raise self._error(f"is an array of {self.type.name}, not of strings")
        items: list[str] = []
        position = self._position
        try:
            for _ in range(self._length):
                (length,) = _U64.unpack_from(self._data, position)
                start = position + 8
                position = start + length
                items.append(str(self._data[start:position], "utf-8"))
        except UnicodeDecodeError:
            raise self._error(f"holds invalid UTF-8 in item {len(items)}") from None
        return items

    def numbers(self) -> NDArray[np.generic]:
        """All items of an array of numbers, as a read-only view into the file.

        Raises ModelFileError if they are not numbers.
        """
        if self.type not in DTYPES:
            raise self._error(f"is an array of {self.type.name}, not of numbers")
        return np.frombuffer(self._data, DTYPES[self.type], self._length, self._position)

    def _error(self, problem: str) -> ModelFileError:
        return ModelFileError(f"Model file '{self._path}': metadata {self._key!r} {problem}")


MetadataValue = bool | int | float | str | LazyArray


class Cursor:
    """Walks a header; whatever does not fit raises Malformed before it is read."""

    def __init__(self, path: Path, data: mmap.mmap, position: int) -> None:
        self.position = position
        self._path = path
        self._data = data
        self._end = len(data)

    def unsigned32(self, what: str) -> int:
        return int(self._unpack(_U32, what))

    def unsigned64(self, what: str) -> int:
        return int(self._unpack(_U64, what))

    def count(self, what: str, most: int, smallest_bytes: int) -> int:
        """A number of entries, each of at least `smallest_bytes`, that the file can hold."""
        count = self.unsigned64(f"number of {what}")
        if count > most:
            raise Malformed(f"claims {count} {what}, more than the {most} allowed")
        if count * smallest_bytes > self._end - self.position:
            raise Malformed(f"claims {count} {what}, more than the file can hold")
        return count

    def string(self, what: str, most_bytes: int) -> str:
        length = self.unsigned64(f"length of {what}")
        if length > most_bytes:
            raise Malformed(f"{what} has {length} bytes, more than the {most_bytes} allowed")
        start = self._advance(length, what)
        try:
            return str(self._data[start : self.position], "utf-8")
        except UnicodeDecodeError:
            raise Malformed(f"{what} is not valid UTF-8") from None

    def value(self, key: str) -> MetadataValue:
        what = f"metadata {key!r}"
        type = self._value_type(what)
        if type is ValueType.STRING:
            return self.string(what, MAX_STRING_BYTES)
        if type is ValueType.ARRAY:
            return self._array(key, what)
        value = self._unpack(_SCALARS[type], what)
        if type is not ValueType.BOOL:
            return value
        if value not in (0, 1):
            raise Malformed(f"{what} is {value}, not a boolean")
        return bool(value)

    def _array(self, key: str, what: str) -> LazyArray:
        type = self._value_type(what)
        if type is ValueType.ARRAY:
            raise Malformed(f"{what} is an array of arrays, which is not supported")
        item_bytes = 8 if type is ValueType.STRING else DTYPES[type].itemsize
        most = MAX_STRING_ITEMS if type is ValueType.STRING else self._end
        length = self.count(f"items in {what}", most, item_bytes)
        array = LazyArray(self._path, self._data, key, type, length, self.position)
        if type is ValueType.STRING:
            self._skip_strings(length, what)
        else:
            self._advance(length * item_bytes, what)
        return array

    def _skip_strings(self, count: int, what: str) -> None:
        position, data, unpack = self.position, self._data, _U64.unpack_from
        try:
            for _ in range(count):
                position += 8 + unpack(data, position)[0]
        except (struct.error, OverflowError):
            position = self._end + 1
        self._advance(position - self.position, what)

    def _value_type(self, what: str) -> ValueType:
        number = self.unsigned32(f"type of {what}")
        try:
            return ValueType(number)
        except ValueError:
            raise Malformed(f"{what} has the unknown type {number}") from None

    def _unpack(self, layout: Struct, what: str) -> int | float:
        start = self._advance(layout.size, what)
        value: int | float = layout.unpack_from(self._data, start)[0]
        return value

    def _advance(self, length: int, what: str) -> int:
        """Step over `length` bytes and return where they start."""
        start = self.position
        if length > self._end - start:
            raise Malformed(f"truncated: the file ends within {what}", hint="fetch the file again")
        self.position = start + length
        return start

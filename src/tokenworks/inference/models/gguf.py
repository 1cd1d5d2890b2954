"""Reads GGUF files (versions 2 and 3, little-endian), also hostile ones.

Every length, count and offset is checked before anything is read or allocated. The layout is
ggml's: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import contextlib
import mmap
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.gguf_values import Cursor, MetadataValue
from tokenworks.inference.models.malformed import Malformed
from tokenworks.inference.models.mapping import fetch_ahead, give_back, map_file
from tokenworks.inference.models.tensors import (
    FOREIGN_TYPES,
    SUPPORTED_TYPES,
    TensorInfo,
    TensorType,
)

MAGIC: Final = b"GGUF"
DEFAULT_ALIGNMENT: Final = 32

# Far above every known model; a bound on the work that a hostile file can ask for.
MAX_ENTRIES: Final = 65_536
MAX_NAME_BYTES: Final = 1_024
MAX_DIMENSIONS: Final = 4
MAX_ALIGNMENT: Final = 65_536

_SMALLEST_ENTRY_BYTES: Final = 13  # a metadata entry: key length, value type, one-byte value
_SMALLEST_TENSOR_BYTES: Final = 33


class GGUF:
    """An open model file, mapped into memory and read only. Made by `read_gguf`.

    The mapping follows the file: it must not be shortened while it is open (the library replaces
    files whole, so a model in use keeps its bytes).
    """

    def __init__(
        self,
        path: Path,
        version: int,
        metadata: dict[str, MetadataValue],
        places: dict[str, tuple[int, int]],
        tensors: dict[str, TensorInfo],
        mapped: mmap.mmap,
    ) -> None:
        self.path = path
        self.version = version
        self.metadata: Mapping[str, MetadataValue] = MappingProxyType(metadata)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(tensors)
        self._places = places
        self._mapped = mapped

    def stored_value(self, key: str) -> bytes:
        """A metadata value as it lies in the file: its type, then its bytes. Raises KeyError."""
        begin, end = self._places[key]
        return self._mapped[begin:end]

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The tensor's bytes as they lie in the file: uint8 [nbytes], read only, not copied.

        Who asks will read them all: a file that is not in the page cache is fetched ahead.
        """
        info = self.tensors[name]
        fetch_ahead(self._mapped, info.offset, info.offset + info.nbytes)
        return np.frombuffer(self._mapped, np.uint8, info.nbytes, info.offset)

    def release(self, name: str, begin: int, end: int) -> None:
        """Give the memory of the tensor's bytes [begin, end) back; views read the file again."""
        offset = self.tensors[name].offset
        give_back(self._mapped, offset + begin, offset + end)

    def close(self) -> None:
        """Let go of the file. Views that are still held keep their memory until they are gone."""
        with contextlib.suppress(BufferError):
            self._mapped.close()


def read_gguf(path: Path) -> GGUF:
    """Open a GGUF file and check its whole header.

    Raises ModelFileError, naming the file and the problem, for a file that cannot be read, is
    truncated or malformed, or holds a tensor type that is not supported.
    """
    mapped = map_file(path, kind="GGUF", least_bytes=len(MAGIC))
    try:
        return _parse(path, mapped)
    except Malformed as problem:
        raise ModelFileError(f"Model file '{path}': {problem}", hint=problem.hint) from None


def _parse(path: Path, mapped: mmap.mmap) -> GGUF:
    if mapped[:4] != MAGIC:
        raise Malformed(
            f"not a GGUF file: it starts with {mapped[:4]!r}",
            hint="see the models that can be pulled: tokenworks models list",
        )
    cursor = Cursor(path, mapped, position=len(MAGIC))
    version = cursor.unsigned32("version")
    _check_version(version)
    tensor_count = cursor.count("tensors", MAX_ENTRIES, _SMALLEST_TENSOR_BYTES)
    metadata_count = cursor.count("metadata entries", MAX_ENTRIES, _SMALLEST_ENTRY_BYTES)
    metadata, places = _read_metadata(cursor, metadata_count)
    alignment = _alignment(metadata)
    headers = [_read_tensor_header(cursor, alignment) for _ in range(tensor_count)]
    data_start = -(-cursor.position // alignment) * alignment
    tensors = _place(headers, data_start, len(mapped))
    return GGUF(path, version, metadata, places, tensors, mapped)


def _check_version(version: int) -> None:
    if version in (2, 3):
        return
    if version & 0xFFFF == 0:
        raise Malformed("big-endian GGUF files are not supported")
    raise Malformed(f"GGUF version {version} is not supported; supported: 2, 3")


def _read_metadata(
    cursor: Cursor, count: int
) -> tuple[dict[str, MetadataValue], dict[str, tuple[int, int]]]:
    """The values by key, and where each lies."""
    metadata: dict[str, MetadataValue] = {}
    places: dict[str, tuple[int, int]] = {}
    for _ in range(count):
        key = cursor.string("metadata key", MAX_NAME_BYTES)
        if key in metadata:
            raise Malformed(f"metadata key {key!r} appears twice")
        begin = cursor.position
        metadata[key] = cursor.value(key)
        places[key] = begin, cursor.position
    return metadata, places


def _alignment(metadata: Mapping[str, MetadataValue]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if (
        not isinstance(alignment, int)
        or not 1 <= alignment <= MAX_ALIGNMENT
        or alignment & (alignment - 1)
    ):
        raise Malformed(
            f"general.alignment is {alignment!r}, not a power of two up to {MAX_ALIGNMENT}"
        )
    return alignment


def _read_tensor_header(cursor: Cursor, alignment: int) -> TensorInfo:
    """A tensor's entry, its `offset` still counted from the start of the data section."""
    name = cursor.string("tensor name", MAX_NAME_BYTES)
    dimensions = cursor.unsigned32(f"dimensions of tensor {name!r}")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise Malformed(f"tensor {name!r} has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}")
    shape = tuple(cursor.unsigned64(f"shape of tensor {name!r}") for _ in range(dimensions))[::-1]
    type = _tensor_type(name, cursor.unsigned32(f"type of tensor {name!r}"))
    offset = cursor.unsigned64(f"offset of tensor {name!r}")
    if not all(shape):
        raise Malformed(f"tensor {name!r} has an empty dimension: {list(shape)}")
    if shape[-1] % type.block_weights:
        raise Malformed(
            f"tensor {name!r} has rows of {shape[-1]} weights, "
            f"but {type.name} stores them in blocks of {type.block_weights}"
        )
    if offset % alignment:
        raise Malformed(f"tensor {name!r} lies at {offset}, which is not a multiple of {alignment}")
    return TensorInfo(name, type, shape, offset, type.nbytes(shape))


def _tensor_type(name: str, number: int) -> TensorType:
    try:
        return TensorType(number)
    except ValueError:
        known = FOREIGN_TYPES.get(number, f"number {number}")
        raise Malformed(
            f"tensor {name!r} has type {known}, which is not supported",
            hint=f"supported tensor types: {SUPPORTED_TYPES}",
        ) from None


def _place(headers: list[TensorInfo], data_start: int, file_bytes: int) -> dict[str, TensorInfo]:
    """Tensors by name, in file order, none out of the file and no two on the same bytes."""
    tensors: dict[str, TensorInfo] = {}
    for header in headers:
        if header.name in tensors:
            raise Malformed(f"tensor {header.name!r} appears twice")
        start = data_start + header.offset
        if start + header.nbytes > file_bytes:
            raise Malformed(
                f"truncated: tensor {header.name!r} ends at byte {start + header.nbytes}, "
                f"the file at {file_bytes}",
                hint="fetch the file again",
            )
        tensors[header.name] = TensorInfo(
            header.name, header.type, header.shape, start, header.nbytes
        )
    end, before = data_start, ""
    for info in sorted(tensors.values(), key=lambda info: info.offset):
        if info.offset < end:
            raise Malformed(f"tensors {before!r} and {info.name!r} overlap")
        end, before = info.offset + info.nbytes, info.name
    return tensors

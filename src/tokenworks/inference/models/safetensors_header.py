"""Reads the header of one safetensors file, also a hostile one.

The layout is https://huggingface.co/docs/safetensors: eight bytes with the header's length, the
header (a JSON object of tensors), then the tensors' bytes without gaps, in any order.
"""

import mmap
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.malformed import Malformed
from tokenworks.inference.models.tensors import TensorInfo, TensorType

PREFIX_BYTES: Final = 8
DTYPES: Final = {"F32": TensorType.F32, "F16": TensorType.F16, "BF16": TensorType.BF16}

# Far above every known model; bounds on the work and memory that a hostile file can ask for.
MOST_HEADER_BYTES: Final = 25_000_000
MOST_TENSORS: Final = 65_536
MOST_NAME_BYTES: Final = 1_024
MOST_DIMENSIONS: Final = 8
_MOST_ENTRY_BYTES: Final = 4_096
_MOST_COLONS: Final = 4 * MOST_TENSORS + 65_536  # four an entry; some for names and remarks
_FETCH_AGAIN: Final = "fetch the file again"

T = TypeVar("T")
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]


class _Entry(msgspec.Struct, gc=False):
    dtype: str
    shape: list[Size]
    data_offsets: tuple[Size, Size]


def unread_dtype(path: Path, name: str, dtype: str) -> ModelFileError:
    """The error for a tensor of a folder that is used and whose dtype is not read."""
    return ModelFileError(
        f"Model folder '{path}': tensor {name!r} has type {dtype}, which is not supported",
        hint=f"supported types in safetensors: {', '.join(DTYPES)}",
    )


class Header(msgspec.Struct, frozen=True):
    """Where tensors lie in the file; `foreign` has the dtype of those whose dtype is not read."""

    tensors: dict[str, TensorInfo]
    foreign: dict[str, str]


def read_header(mapped: mmap.mmap) -> Header:
    """Read and check a whole header. Raises Malformed."""
    length = int.from_bytes(mapped[:PREFIX_BYTES], "little")
    if length > MOST_HEADER_BYTES:
        raise Malformed(
            f"not a safetensors file: its header claims {length} bytes, "
            f"more than the {MOST_HEADER_BYTES} allowed"
        )
    start = PREFIX_BYTES + length
    if start > len(mapped):
        raise Malformed("truncated: the file ends within its header", hint=_FETCH_AGAIN)
    entries = _entries(mapped[PREFIX_BYTES:start])
    _check_places(entries, len(mapped) - start)
    tensors: dict[str, TensorInfo] = {}
    foreign: dict[str, str] = {}
    for name, entry in entries.items():
        type = DTYPES.get(entry.dtype)
        if type is None:
            foreign[name] = entry.dtype
        else:
            tensors[name] = tensor_info(name, type, entry.shape, start, entry.data_offsets)
    return Header(tensors, foreign)


def tensor_info(
    name: str, type: TensorType, shape: list[int], data_start: int, offsets: tuple[int, int]
) -> TensorInfo:
    """A tensor whose bytes are as many as its shape asks for. Raises Malformed if they are not."""
    info = TensorInfo(name, type, tuple(shape), data_start + offsets[0], type.nbytes(tuple(shape)))
    if offsets[1] - offsets[0] != info.nbytes:
        raise Malformed(
            f"tensor {name!r} has {offsets[1] - offsets[0]} bytes, "
            f"but {type.name} of {shape} takes {info.nbytes}"
        )
    return info


def _entries(header: bytes) -> dict[str, _Entry]:
    if header.count(b":") > _MOST_COLONS:
        raise Malformed(f"claims more than the {MOST_TENSORS} tensors allowed")
    raw = _decode(header, dict[str, msgspec.Raw], "its header")
    raw.pop("__metadata__", None)
    if len(raw) > MOST_TENSORS:
        raise Malformed(f"claims {len(raw)} tensors, more than the {MOST_TENSORS} allowed")
    return {name: _entry(name, text) for name, text in raw.items()}


def _entry(name: str, text: msgspec.Raw) -> _Entry:
    if len(name.encode()) > MOST_NAME_BYTES:
        raise Malformed(f"tensor name {name[:40]!r}… is longer than {MOST_NAME_BYTES} bytes")
    if len(memoryview(text)) > _MOST_ENTRY_BYTES:
        raise Malformed(f"the entry of tensor {name!r} is longer than {_MOST_ENTRY_BYTES} bytes")
    entry = _decode(text, _Entry, f"the entry of tensor {name!r}")
    if len(entry.shape) > MOST_DIMENSIONS:
        raise Malformed(
            f"tensor {name!r} has {len(entry.shape)} dimensions, more than {MOST_DIMENSIONS}"
        )
    return entry


def _check_places(entries: dict[str, _Entry], data_bytes: int) -> None:
    """Every byte after the header belongs to one tensor, as the format asks for."""
    end, before = 0, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        begin, finish = entry.data_offsets
        if finish > data_bytes:
            raise Malformed(
                f"truncated: tensor {name!r} ends at byte {finish} of the data, "
                f"which has {data_bytes}",
                hint=_FETCH_AGAIN,
            )
        if begin != end or finish < begin:
            raise Malformed(
                f"tensor {name!r} lies at {begin} to {finish}, but {before} ends at {end}"
            )
        end, before = finish, repr(name)
    if end != data_bytes:
        raise Malformed(f"{data_bytes - end} bytes at its end belong to no tensor")


def _decode(text: bytes | msgspec.Raw, type: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(text, type=type)
    except (ValueError, RecursionError) as problem:  # msgspec's errors are ValueErrors
        raise Malformed(f"{what} cannot be read: {problem}") from None

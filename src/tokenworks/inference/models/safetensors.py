"""Reads a model folder in Hugging Face's layout: its configuration and its safetensors weights.

Every length, count and offset is checked before anything is read or allocated by it. The reader is
our own because numpy has no bfloat16, and because files are checked here before they are trusted.
"""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.folder_files import (
    MOST_TENSORS,
    model_files,
    read_config,
    read_index,
    shards_of,
)
from tokenworks.inference.models.folder_layout import INDEX
from tokenworks.inference.models.malformed import Malformed
from tokenworks.inference.models.mapping import fetch_ahead, give_back, map_file
from tokenworks.inference.models.safetensors_header import (
    PREFIX_BYTES,
    Header,
    read_header,
    unread_dtype,
)
from tokenworks.inference.models.tensors import TensorInfo


class Folder:
    """An open model folder, its weights mapped into memory and read only. Made by `read_folder`.

    `config` is what config.json holds. `tensors` has those that can be read, by their own names,
    with `offset` counted from the start of their shard; `foreign` has the dtype of the others. The
    files must not be shortened while they are open.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], shards: list["_Shard"]) -> None:
        self.path = path
        self.config = config
        self._shards = shards
        self._mapped = {name: shard.mapped for shard in shards for name in shard.header.tensors}
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(
            {name: info for shard in shards for name, info in shard.header.tensors.items()}
        )
        self.foreign: Mapping[str, str] = MappingProxyType(
            {name: dtype for shard in shards for name, dtype in shard.header.foreign.items()}
        )

    def info(self, name: str) -> TensorInfo:
        """A tensor that is to be used.

        Raises ModelFileError if there is none of this name, or its dtype is not supported.
        """
        if name in self.tensors:
            return self.tensors[name]
        if name in self.foreign:
            raise unread_dtype(self.path, name, self.foreign[name])
        raise ModelFileError(f"Model folder '{self.path}': tensor {name!r} is missing")

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The tensor's bytes as they lie in its file: uint8 [nbytes], read only, not copied.

        They may start at any address, also one that is no multiple of the element's size.
        Raises as `info`.
        """
        info = self.info(name)
        fetch_ahead(self._mapped[name], info.offset, info.offset + info.nbytes)
        return np.frombuffer(self._mapped[name], np.uint8, info.nbytes, info.offset)

    def release(self, name: str, begin: int, end: int) -> None:
        """Give the memory of the tensor's bytes [begin, end) back; views read the file again."""
        offset = self.info(name).offset
        give_back(self._mapped[name], offset + begin, offset + end)

    def close(self) -> None:
        """Let go of the files. Views that are still held keep their memory until they are gone."""
        _close(self._shards)


class _Shard:
    """One safetensors file of a folder: mapped, its header read. Raises ModelFileError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mapped = map_file(path, kind="safetensors", least_bytes=PREFIX_BYTES)
        try:
            self.header: Header = read_header(self.mapped)
        except Malformed as problem:
            self.mapped.close()
            message = f"Model file '{path}': {problem}"
            raise ModelFileError(message, hint=problem.hint) from None

    def names(self) -> set[str]:
        return {*self.header.tensors, *self.header.foreign}


def read_folder(path: Path) -> Folder:
    """Open a model folder, checking that it is whole and the headers of all its weights.

    Raises ModelFileError, naming folder, file and problem, for a folder that cannot be read, lacks
    a shard, is truncated or malformed, or holds its weights in pickles only.
    """
    files = model_files(path)
    config = read_config(path)
    placed = read_index(path / INDEX) if INDEX in files else None
    shards: list[_Shard] = []
    try:
        for name in shards_of(files):
            shards.append(_Shard(path / name))
        _check_together(path, placed, shards)
    except BaseException:
        _close(shards)
        raise
    return Folder(path, config, shards)


def _check_together(path: Path, placed: Mapping[str, str] | None, shards: list[_Shard]) -> None:
    """No tensor in two shards, none too many, and each where the index says."""
    found: dict[str, str] = {}
    for shard in shards:
        for name in shard.names():
            if name in found:
                raise ModelFileError(
                    f"Model folder '{path}': tensor {name!r} is in two shards, "
                    f"'{found[name]}' and '{shard.path.name}'"
                )
            found[name] = shard.path.name
        if len(found) > MOST_TENSORS:
            raise ModelFileError(
                f"Model folder '{path}' has more than the {MOST_TENSORS} tensors allowed"
            )
    for name, place in (placed or {}).items():
        if found.get(name) != place:
            raise ModelFileError(
                f"Model folder '{path}': its index says that tensor {name!r} is in '{place}', "
                "but it is not",
                hint="fetch the model again: tokenworks models pull hf:OWNER/NAME",
            )


def _close(shards: Iterable[_Shard]) -> None:
    for shard in shards:
        with contextlib.suppress(BufferError):
            shard.mapped.close()

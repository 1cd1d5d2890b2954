"""Finds the files of a model folder in Hugging Face's layout, and reads its small JSON files."""

import os
import stat
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.folder_layout import (
    COMPANIONS,
    CONFIG,
    INDEX,
    WEIGHTS,
    files_of,
    is_shard_name,
    weights_file,
)
from tokenworks.inference.models.malformed import Malformed

T = TypeVar("T")

# Far above every known model; bounds on the work and memory that a hostile file can ask for.
MOST_CONFIG_BYTES: Final = 4 << 20
MOST_INDEX_BYTES: Final = 32 << 20
MOST_TENSORS: Final = 262_144
MOST_SHARDS: Final = 1_000


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def model_files(folder: Path) -> list[str]:
    """The names, below the folder, of all files of its model.

    Raises ModelFileError for what is no model folder, or one that lacks a shard.
    """
    names = _names(folder)
    try:
        if weights_file(names) == INDEX:
            shards = sorted(set(read_index(folder / INDEX).values()))
        else:
            shards = [WEIGHTS]
        return files_of(names, shards)
    except Malformed as problem:
        raise ModelFileError(f"Model folder '{folder}' {problem}", hint=problem.hint) from None


def size_of(path: Path) -> int:
    """Bytes of a GGUF file, or of all files of a folder's model. Raises as `model_files`."""
    files = [path / name for name in model_files(path)] if path.is_dir() else [path]
    return sum(_status(file).st_size for file in files)


def shards_of(files: list[str]) -> list[str]:
    """Those of a model's files that hold weights."""
    return [name for name in files if is_shard_name(name)]


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises ModelFileError."""
    return read_json(folder / CONFIG, dict[str, Any], MOST_CONFIG_BYTES)


def read_index(path: Path) -> dict[str, str]:
    """The shard of each tensor, as an index says. Raises ModelFileError."""
    placed = read_json(path, _Index, MOST_INDEX_BYTES).weight_map
    shards = set(placed.values())
    strange = sorted(name for name in shards if not is_shard_name(name))
    if not placed:
        problem = "names no tensor"
    elif len(placed) > MOST_TENSORS:
        problem = f"names {len(placed)} tensors, more than the {MOST_TENSORS} allowed"
    elif len(shards) > MOST_SHARDS:
        problem = f"names {len(shards)} shards, more than the {MOST_SHARDS} allowed"
    elif strange:
        problem = f"names {strange[0][:200]!r}, which is no plain name of a safetensors file"
    else:
        return placed
    raise ModelFileError(f"Model file '{path}' {problem}")


def _names(folder: Path) -> set[str]:
    """Names at the folder's top, and companions: these only if they are files that are there."""
    try:
        companions = {name for name in COMPANIONS if (folder / name).is_file()}
        return {*os.listdir(folder)}.difference(COMPANIONS) | companions
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise ModelFileError(f"Model folder '{folder}' cannot be read: {reason}") from None


def read_json(path: Path, type: type[T], most_bytes: int) -> T:
    """A small JSON file. Raises ModelFileError for one that cannot be read as this type."""
    size = _status(path).st_size
    if size > most_bytes:
        raise ModelFileError(
            f"Model file '{path}' is too large: {size} bytes, at most {most_bytes}"
        )
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise ModelFileError(f"Model file '{path}' cannot be read: {problem.strerror}") from None
    if data.count(b":") > 2 * MOST_TENSORS:  # each costs far more memory decoded than written
        raise ModelFileError(f"Model file '{path}' names more than {2 * MOST_TENSORS} things")
    try:
        return msgspec.json.decode(data, type=type)
    except (ValueError, RecursionError) as problem:  # msgspec's errors are ValueErrors
        raise ModelFileError(f"Model file '{path}' cannot be read: {problem}") from None


def _status(path: Path) -> os.stat_result:
    """What the disk says of a file; never waits, as opening a pipe would."""
    try:
        status = path.stat()
    except OSError as problem:
        raise ModelFileError(f"Model file '{path}' cannot be read: {problem.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError(f"Model file '{path}' is not a regular file")
    return status

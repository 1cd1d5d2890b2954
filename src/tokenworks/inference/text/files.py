"""Reads the small files of a model folder, bounded before they are read."""

import stat
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from tokenworks.errors import ModelFileError

MAX_BYTES: Final = 128 << 20
"""The largest tokenizer.json in use has about 33 MB."""

Value = TypeVar("Value")


def read_bytes(path: Path) -> bytes:
    """All of a file. Raises ModelFileError if it cannot be read or is too large to be honest."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise file_error(path, "is not a regular file")
        if status.st_size > MAX_BYTES:
            raise file_error(path, f"has {status.st_size} bytes, more than {MAX_BYTES}")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as problem:
        raise file_error(path, f"cannot be read: {problem.strerror or problem}") from None
    if len(data) > MAX_BYTES:
        raise file_error(path, f"has more than {MAX_BYTES} bytes")
    return data


def read_text(path: Path) -> str:
    """A file of UTF-8."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise file_error(path, "is not UTF-8") from None


def read_json(path: Path, type: type[Value]) -> Value:
    """A JSON file of this shape."""
    return parse_json(path, read_bytes(path), type)


def parse_json(path: Path, data: bytes | msgspec.Raw, type: type[Value]) -> Value:
    """JSON out of a file. Raises ModelFileError, naming the file and the place in it."""
    try:
        return msgspec.json.decode(data, type=type)
    except (msgspec.DecodeError, RecursionError, ValueError) as problem:
        raise file_error(path, f"is malformed: {problem}") from None


def file_error(path: Path, problem: str) -> ModelFileError:
    return ModelFileError(f"Model file '{path}' {problem}")

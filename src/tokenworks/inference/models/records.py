"""What the library remembers about a pulled model, in a small file beside it."""

from pathlib import Path
from typing import Final

import msgspec

from tokenworks.store.files import write_atomic

_RECORD_FILE: Final = "model.json"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model came from and what its file was when it came."""

    source: str
    sha256: str
    file_bytes: int
    licence: str | None = None


def read_record(folder: Path) -> Record | None:
    """The record in a model's folder; None if there is none or it is damaged."""
    try:
        return msgspec.json.decode((folder / _RECORD_FILE).read_bytes(), type=Record)
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None


def write_record(folder: Path, record: Record) -> None:
    write_atomic(folder / _RECORD_FILE, msgspec.json.format(msgspec.json.encode(record)))

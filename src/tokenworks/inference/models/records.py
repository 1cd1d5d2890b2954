"""What the library remembers about a pulled model, in a small file beside it."""

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from tokenworks.store.files import write_atomic

MODEL_FILE: Final = "model.gguf"
"""What a pulled GGUF file is called in its model's folder; without it, the folder itself is the
model, in Hugging Face's layout. No file of that layout is called as the record."""

_RECORD_FILE: Final = "model.json"


class StoredFile(msgspec.Struct, frozen=True):
    """What a file was when it came: its SHA-256 in hexadecimal and its size."""

    sha256: str
    file_bytes: int


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model came from, and its files by their paths below the model's folder.

    `revision` is the commit that a source with branches meant by its name on that day.
    """

    source: str
    files: dict[str, StoredFile]
    revision: str | None = None
    licence: str | None = None

    @property
    def file_bytes(self) -> int:
        return sum(file.file_bytes for file in self.files.values())

    @property
    def sha256(self) -> str:
        """Of the one file; of a folder, that of the lines "<SHA-256>  <path>", by path."""
        if self.is_one_file:
            return self.files[MODEL_FILE].sha256
        lines = (f"{file.sha256}  {name}\n" for name, file in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def is_one_file(self) -> bool:
        """Whether the model is a GGUF file, and not the folder that holds the record."""
        return MODEL_FILE in self.files


class _Record01(msgspec.Struct, frozen=True, kw_only=True):
    """A record as version 0.1 wrote it: a model was one GGUF file."""

    source: str
    sha256: str
    file_bytes: int
    licence: str | None = None

    def today(self) -> Record:
        files = {MODEL_FILE: StoredFile(self.sha256, self.file_bytes)}
        return Record(source=self.source, files=files, licence=self.licence)


def read_record(folder: Path) -> Record | None:
    """The record in a model's folder; None if there is none or it is damaged."""
    try:
        data = (folder / _RECORD_FILE).read_bytes()
        try:
            return msgspec.json.decode(data, type=Record)
        except msgspec.ValidationError:
            return msgspec.json.decode(data, type=_Record01).today()
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None


def write_record(folder: Path, record: Record) -> None:
    write_atomic(folder / _RECORD_FILE, msgspec.json.format(msgspec.json.encode(record)))

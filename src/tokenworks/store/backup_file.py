"""The one file of a backup: a tar archive of known members, and a checksum over all of it.

Any program that reads tar archives reads it. Its last line is the SHA-256 of everything before.
"""

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

import msgspec

from tokenworks.errors import ConfigError
from tokenworks.store.files import atomic_writer

FORMAT: Final = 1
"""Of the file. A newer one is not read; an older one always will be."""

_MANIFEST, DATABASE, SECRET, POLICIES = (
    "manifest.json",
    "database.sqlite",
    "secret",
    "policies.toml",
)
_LARGEST_SMALL: Final = 4 << 20
_TRAILER: Final = 72
"""Bytes of the last line: `sha256 `, 64 digits and a line's end."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a backup. `schema` is the step of its database, `made_at` in Unix seconds."""

    format: int = FORMAT
    program: str
    made_at: float
    schema: int
    made_from: Literal["sqlite", "postgresql"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """An opened backup, whole. `database` is an SQLite file that goes when it is closed."""

    manifest: Manifest
    database: Path
    secret: bytes | None
    policies: bytes | None


def write(
    path: Path, manifest: Manifest, database: Path, secret: bytes | None, policies: bytes | None
) -> None:
    """Write it, readable by its owner only: whole, or nothing at all."""
    with atomic_writer(path) as file:
        hashing = _Hashing(file)
        with tarfile.open(fileobj=hashing, mode="w|") as archive:
            _add(archive, _MANIFEST, msgspec.json.encode(manifest), manifest.made_at)
            for name, data in ((SECRET, secret), (POLICIES, policies)):
                if data is not None:
                    _add(archive, name, data, manifest.made_at)
            archive.add(database, DATABASE, filter=_nobodys)
        file.write(b"sha256 %b\n" % hashing.digest.hexdigest().encode())


@contextmanager
def opened(path: Path, folder: Path) -> Iterator[Backup]:
    """A backup whose every byte was checked; its database lies in `folder` meanwhile.

    Raises ConfigError for a file that is no backup, is damaged, or of a newer program.
    """
    try:
        with path.open("rb") as file:
            _check(path, file)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                manifest = _manifest(path, archive)
                database = folder / DATABASE
                _extract(archive, database)
                backup = Backup(
                    manifest=manifest,
                    database=database,
                    secret=_small(archive, SECRET),
                    policies=_small(archive, POLICIES),
                )
    except OSError as problem:
        raise ConfigError(f"The backup {path} cannot be read: {problem.strerror}") from None
    except (tarfile.TarError, KeyError, msgspec.DecodeError):
        raise ConfigError(f"{path} is no backup of Tokenworks") from None
    try:
        yield backup
    finally:
        backup.database.unlink(missing_ok=True)


class _Hashing(io.RawIOBase):
    """Writes on, and adds up what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.digest = hashlib.sha256()
        self._file = file

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.digest.update(data)
        return self._file.write(data)


def _add(archive: tarfile.TarFile, name: str, data: bytes, at: float) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(data), 0o600, int(at)
    archive.addfile(member, io.BytesIO(data))


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _check(path: Path, file: BinaryIO) -> None:
    size = os.fstat(file.fileno()).st_size - _TRAILER
    digest, left = hashlib.sha256(), max(0, size)
    while left and (data := file.read(min(left, 1 << 20))):
        digest.update(data)
        left -= len(data)
    if size < 0 or file.read() != b"sha256 %b\n" % digest.hexdigest().encode():
        raise ConfigError(
            f"The backup {path} is damaged, cut short, or none at all: its checksum does not fit",
            hint="take another one; nothing was changed",
        )
    file.seek(0)


def _manifest(path: Path, archive: tarfile.TarFile) -> Manifest:
    data = _small(archive, _MANIFEST) or b""
    if msgspec.json.decode(data, type=_Versioned).format > FORMAT:
        raise ConfigError(f"The backup {path} is of a newer Tokenworks", hint="update this program")
    return msgspec.json.decode(data, type=Manifest)


class _Versioned(msgspec.Struct):
    format: int


def _small(archive: tarfile.TarFile, name: str) -> bytes | None:
    if name not in archive.getnames():
        return None
    member = archive.getmember(name)
    file = archive.extractfile(member)
    if file is None or member.size > _LARGEST_SMALL:
        raise KeyError(name)
    return file.read()


def _extract(archive: tarfile.TarFile, into: Path) -> None:
    """The member's bytes, whatever else the archive says of it."""
    file = archive.extractfile(DATABASE)
    if file is None:
        raise KeyError(DATABASE)
    descriptor = os.open(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        shutil.copyfileobj(file, target)

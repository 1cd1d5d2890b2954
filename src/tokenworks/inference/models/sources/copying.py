"""Copies, links and hashes files, telling how far it is."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

from tokenworks.inference.models.progress import Phase, Progress
from tokenworks.inference.models.records import StoredFile
from tokenworks.inference.models.sources.pull import Pull
from tokenworks.store.files import sync_folder

_CHUNK_BYTES: Final = 1 << 20
_WEIGHTS: Final = (".gguf", ".safetensors")


class Meter:
    """Adds up the bytes of all files of one phase. `total_bytes` None is unknown."""

    def __init__(self, phase: Phase, total_bytes: int | None, progress: Progress) -> None:
        self._phase = phase
        self._total_bytes = total_bytes
        self._progress = progress
        self._done_bytes = 0

    def add(self, some_bytes: int) -> None:
        self._done_bytes += some_bytes
        self._progress(self._phase, self._done_bytes, self._total_bytes)


def copy(source: IO[bytes], target: IO[bytes] | None, most_bytes: int, meter: Meter) -> StoredFile:
    """Hash, and copy if there is a target; never more than one chunk beyond `most_bytes`."""
    hasher = hashlib.sha256()
    done = 0
    while done <= most_bytes and (chunk := source.read(_CHUNK_BYTES)):
        hasher.update(chunk)
        if target is not None:
            target.write(chunk)
        done += len(chunk)
        meter.add(len(chunk))
    if target is not None:
        target.flush()
        os.fsync(target.fileno())
    return StoredFile(hasher.hexdigest(), done)


def digest(folder: Path, names: Mapping[str, int], progress: Progress) -> dict[str, StoredFile]:
    """SHA-256 and size of files below a folder. `names` come with the sizes they should have."""
    meter = Meter("checking", sum(names.values()), progress)
    found = {}
    for name, most_bytes in names.items():
        with (folder / name).open("rb") as file:
            found[name] = copy(file, None, most_bytes, meter)
    return found


def take(files: Mapping[str, Path], pull: Pull) -> dict[str, StoredFile]:
    """Put files of this machine at names below `pull.place`, synced.

    Weights are linked where that is possible, so that large models do not lie on disk twice; the
    rest is copied, since people edit small files. Raises OSError, or DownloadError for want of
    space.
    """
    sizes = {name: path.stat().st_size for name, path in files.items()}
    linked = {name for name, path in files.items() if _link(name, path, pull.place)}
    copied_bytes = sum(size for name, size in sizes.items() if name not in linked)
    pull.check_space(copied_bytes)
    copying = Meter("copying", copied_bytes, pull.progress)
    found = digest(pull.place, {name: sizes[name] for name in linked}, pull.progress)
    for name, path in files.items():
        if name not in linked:
            with path.open("rb") as source, (pull.place / name).open("wb") as target:
                found[name] = copy(source, target, sizes[name], copying)
    sync_below(pull.place)
    return found


def sync_below(place: Path) -> None:
    """Make the names in a folder and its folders survive a power cut."""
    for folder, _, _ in os.walk(place):
        sync_folder(Path(folder))


def _link(name: str, path: Path, place: Path) -> bool:
    target = place / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not name.endswith(_WEIGHTS):
        return False
    try:
        os.link(path.resolve(), target)
    except OSError:  # another disk, a file system without links, another user's file
        return False
    return True

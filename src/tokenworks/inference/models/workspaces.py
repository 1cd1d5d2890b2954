"""The hidden folders that pulls work in, and the lock that each model's pulls share."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenworks.inference.models.progress import Progress
from tokenworks.store.files import file_lock


def folder_name(text: str) -> str:
    """An id that is safe as a folder's name."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower())[:100].lstrip(".-") or "model"


@contextmanager
def locked(models: Path, id: str, progress: Progress) -> Iterator[int]:
    """Hold the lock on a model among all processes; yields its descriptor."""
    lock = models / f".{id}.lock"
    with file_lock(lock, on_wait=lambda: progress("waiting", 0, None)) as held:
        yield held


@contextmanager
def workspace(models: Path, id: str) -> Iterator[Path]:
    """A scratch folder on the library's disk; what a crash left of earlier ones is removed."""
    for stale in models.glob(f".pull-{id}-????????"):
        shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".pull-{id}-", dir=models))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def kept(models: Path, id: str) -> Iterator[Path]:
    """A place for whole files that the next pull goes on from if this one is interrupted.

    It is made by who needs it, and is gone afterwards, unless the block fails and weights lie in
    it.
    """
    folder = kept_folder(models, id)
    try:
        yield folder
    except BaseException:
        if not any(folder.glob("**/*.safetensors")):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def kept_folder(models: Path, id: str) -> Path:
    """Where an interrupted pull of a model leaves what has arrived."""
    return models / f".kept-{id}"

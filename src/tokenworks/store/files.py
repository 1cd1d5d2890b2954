"""Files that are whole or not there, and a lock between processes."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PARTIAL_SUFFIX = ".partial"
"""Ends the name of a file that is being written; what a crash leaves behind has it too."""


@contextmanager
def atomic_writer(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Write a file of mode 0600 that appears at `path`, synced, only if the block ends well.

    Whatever was there before is replaced in one step. If the block fails, nothing remains. Without
    `sync` that holds as long as the machine does not fail: for what readers check, and can do
    without.
    """
    descriptor, name = tempfile.mkstemp(f"{PARTIAL_SUFFIX}", f".{path.name}.", path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        if sync:
            publish(Path(name), path)
        else:
            os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`: readers see the old bytes or the new ones."""
    with atomic_writer(path) as file:
        file.write(data)


def publish(written: Path, path: Path) -> None:
    """Move a file or folder whose contents are synced to its final name, durably."""
    os.replace(written, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def file_lock(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[int]:
    """Hold the lock that the file at `path` stands for; it ends with the process at the latest.

    If another process holds it, `on_wait` is called once and then this one waits. Yields the
    lock's descriptor: a child that inherits it holds the lock as well, until it ends. The file
    stays: removing it would let two processes lock two files of one name.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(path: Path) -> int | None:
    """Take the lock that the file at `path` stands for, as `file_lock` does, and keep it until the
    descriptor that is returned is closed or the process ends; None if another one has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor

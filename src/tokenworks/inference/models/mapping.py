"""Maps a model's file into memory, read only."""

import mmap
import stat
from pathlib import Path

from tokenworks.errors import ModelFileError


def map_file(path: Path, *, kind: str, least_bytes: int) -> mmap.mmap:
    """The whole file. `kind` says in errors what it should have been.

    Nothing but a regular file is opened: opening a pipe would wait for a writer for ever.
    Raises ModelFileError.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError(f"Model file '{path}' is not a regular file")
        if status.st_size < least_bytes:
            raise ModelFileError(f"Model file '{path}' is not a {kind} file: it is nearly empty")
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise ModelFileError(f"Model file '{path}' cannot be read: {reason}") from None


def fetch_ahead(mapped: mmap.mmap, begin: int, end: int) -> None:
    """All of the bytes [begin, end) will be read: what is not in the page cache is asked for."""
    _advise(mapped, mmap.MADV_WILLNEED, begin, end)


def give_back(mapped: mmap.mmap, begin: int, end: int) -> None:
    """Give the memory of the bytes [begin, end) back to the system.

    Views stay valid: whoever reads there again gets the bytes from the file again.
    """
    _advise(mapped, mmap.MADV_DONTNEED, begin, end)


def _advise(mapped: mmap.mmap, advice: int, begin: int, end: int) -> None:
    start = begin // mmap.PAGESIZE * mmap.PAGESIZE
    if begin < end:
        mapped.madvise(advice, start, end - start)

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

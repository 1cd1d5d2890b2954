"""Errors of a disk that refuses."""

import errno
from pathlib import Path

from tokenworks.errors import DownloadError


def storage_error(problem: OSError, folder: Path) -> DownloadError:
    """The error for a file system that refuses, a full one above all."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(folder)
    place, reason = problem.filename or folder, problem.strerror or problem
    return DownloadError(
        f"'{place}' cannot be read or written: {reason}",
        hint="check that it is there, and who may read and write it",
    )


def no_space(folder: Path, needed_bytes: int | None = None) -> DownloadError:
    """The error for a full disk."""
    need = f"; {needed_bytes / 1e6:.0f} MB are needed" if needed_bytes else ""
    return DownloadError(
        f"There is not enough space in '{folder}'{need}",
        hint="free some space, or use another disk: export TOKENWORKS_HOME=FOLDER",
    )

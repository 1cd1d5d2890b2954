"""A secret of this installation: random bytes in a file that only its owner can read."""

import os
import secrets
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from tokenworks.errors import ConfigError
from tokenworks.store.files import PARTIAL_SUFFIX, sync_folder

SIZE: Final = 32
"""Bytes of a secret."""


def secret_at(path: Path, *, draw: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
    """The secret in this file, made when first asked for; all processes get the same one.

    Raises ConfigError if the file is not one of ours, or if others may read it.
    """
    if not path.exists():
        _make(path, draw(SIZE))
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            found = file.read(SIZE + 1)
    except OSError as problem:
        raise ConfigError(f"The secret {path} cannot be read: {problem.strerror}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            f"The secret {path} can be read by others than its owner", hint=f"chmod 600 {path}"
        )
    if len(found) != SIZE:
        raise ConfigError(
            f"The secret {path} has not {SIZE} bytes",
            hint="restore it from a backup; without it, all keys must be made anew",
        )
    return found


def _make(path: Path, secret: bytes) -> None:
    """Write it under another name and link it: of two processes at once, the first one wins."""
    try:
        descriptor, own = tempfile.mkstemp(PARTIAL_SUFFIX, f".{path.name}.", path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secret)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(own, path)
        finally:
            os.unlink(own)
        sync_folder(path.parent)
    except OSError as problem:
        raise ConfigError(f"The secret {path} cannot be made: {problem.strerror}") from None

"""The state of an installation in one file: database, secret and policies; not the models."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenworks.errors import ConfigError
from tokenworks.store import backup_file
from tokenworks.store.backup_file import Manifest
from tokenworks.store.backup_rows import snapshot
from tokenworks.store.dialects import Sqlite, StoreError, dialect_of
from tokenworks.store.files import PARTIAL_SUFFIX
from tokenworks.store.migrations import STEPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the state of an installation is: `folder` is its state folder, `policies` the file of
    policies, if it has one."""

    database: str  # its URL
    secret: Path
    policies: Path | None
    folder: Path


def take(place: Place, path: Path, *, program: str, at: float, replace: bool = False) -> Manifest:
    """Back up to `path`, while others use the database. `at` is the time now, in Unix seconds.

    Raises ConfigError if there is nothing to back up, or a file already and not `replace`;
    StoreError if the database is damaged or the disk full.
    """
    if path.exists() and not replace:
        raise ConfigError(f"There is a file {path} already", hint="give another name, or --replace")
    try:
        secret = place.secret.read_bytes()
    except OSError as problem:
        raise ConfigError(f"The secret {place.secret} cannot be read: {problem.strerror}") from None
    return write(place, path, secret, program=program, at=at)


def write(place: Place, path: Path, secret: bytes | None, *, program: str, at: float) -> Manifest:
    """As `take`, of whatever is there. Raises as it does."""
    dialect = dialect_of(place.database)
    with working_folder(path.parent, "backup") as folder:
        copied = folder / "database.sqlite"
        schema = snapshot(dialect, copied)
        if schema > len(STEPS):
            raise ConfigError(
                "The database is of a newer Tokenworks than this program",
                hint="back up with the program that uses it",
            )
        kind: Literal["sqlite", "postgresql"] = (
            "sqlite" if isinstance(dialect, Sqlite) else "postgresql"
        )
        manifest = Manifest(program=program, made_at=at, schema=schema, made_from=kind)
        try:
            backup_file.write(path, manifest, copied, secret, _policies(place))
        except OSError as problem:
            raise StoreError(f"{path} cannot be written: {problem.strerror}") from None
    return manifest


@contextmanager
def working_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder that only its owner can look into, and that goes at the end.

    Raises ConfigError if it cannot be made.
    """
    try:
        folder = tempfile.TemporaryDirectory(PARTIAL_SUFFIX, f".{name}.", parent)
    except OSError as problem:
        raise ConfigError(f"{parent} cannot be written to: {problem.strerror}") from None
    with folder as made:
        yield Path(made)


def _policies(place: Place) -> bytes | None:
    if place.policies is None:
        return None
    try:
        return place.policies.read_bytes()
    except OSError as problem:
        raise ConfigError(
            f"The policies {place.policies} cannot be read: {problem.strerror}"
        ) from None

"""Which of the processes that share a database are alive.

Each holds a lock for as long as it lives, which ends with it however it ends: a lock on a file
beside an SQLite database, an advisory lock of the writer's session on a PostgreSQL server. Whoever
finds the lock of another free knows that the other is gone; no clocks are compared.
"""

import glob
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from tokenworks.store.database import Database
from tokenworks.store.dialects import Dialect, Sqlite
from tokenworks.store.files import try_lock
from tokenworks.store.transaction import Transaction

_CLASS: Final = 0x746F6B
"""Sets the advisory locks of instances apart from others on the same server."""


class Instance(Protocol):
    """This process, among those that share the database."""

    @property
    def id(self) -> int: ...

    def is_gone(self, transaction: Transaction, other: int) -> bool:
        """Whether the process that once was `other` has ended. Ask in a transaction that writes."""
        ...

    def close(self) -> None: ...


def claim(
    database: Database, *, draw: Callable[[int], int] = secrets.randbelow
) -> "FileInstance | SessionInstance":
    """Become an instance, with an id that no other has. Raises StoreError."""
    while True:
        number = 1 + draw(2**31 - 1)
        dialect = database.dialect
        found = (
            FileInstance.claim(dialect.path, number)
            if isinstance(dialect, Sqlite)
            else SessionInstance.claim(database, number)
        )
        if found is not None:
            return found


def running(dialect: Dialect, transaction: Transaction | None = None) -> bool:
    """Whether an instance lives that uses this database. A PostgreSQL server is asked in
    `transaction`, which is one that writes."""
    if isinstance(dialect, Sqlite):
        _remove_left(dialect.path)
        return any(_lock_files(dialect.path))
    assert transaction is not None
    found = transaction.row(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = ? "
        "AND objsubid = 2 AND database = (SELECT oid FROM pg_database "
        "WHERE datname = current_database())",
        _CLASS,
    )
    return found != (0,)


class FileInstance:
    """Holds a lock on `DATABASE.instance-ID`."""

    def __init__(self, path: Path, number: int, descriptor: int) -> None:
        self.id = number
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def claim(cls, path: Path, number: int) -> "FileInstance | None":
        _remove_left(path)
        own = _lock_file(path, number)
        descriptor = try_lock(own)
        if descriptor is None:
            return None
        # Who clears up may have taken the name away between the file's making and its locking.
        if not _is_named(own, descriptor):
            os.close(descriptor)
            return None
        return cls(path, number, descriptor)

    def is_gone(self, transaction: Transaction, other: int) -> bool:
        if other == self.id:
            return False
        file = _lock_file(self._path, other)
        descriptor = try_lock(file)
        if descriptor is None:
            return False
        file.unlink(missing_ok=True)  # nobody becomes this one again
        os.close(descriptor)
        return True

    def close(self) -> None:
        if self._descriptor >= 0:
            _lock_file(self._path, self.id).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


class SessionInstance:
    """Holds an advisory lock in the writer's session, and takes it again when that reconnects.

    In between, another instance may take this one for dead and book its requests as lost; settling
    them corrects that.
    """

    def __init__(self, number: int) -> None:
        self.id = number

    @classmethod
    def claim(cls, database: Database, number: int) -> "SessionInstance | None":
        def lock(transaction: Transaction) -> bool:
            found = transaction.row("SELECT pg_try_advisory_lock(?, ?)", _CLASS, number)
            return found is not None and bool(found[0])

        if not database.write_now(lock):
            return None
        database.keep(lock)
        return cls(number)

    def is_gone(self, transaction: Transaction, other: int) -> bool:
        if other == self.id:
            return False
        found = transaction.row("SELECT pg_try_advisory_xact_lock(?, ?)", _CLASS, other)
        return found is not None and bool(found[0])

    def close(self) -> None:
        """The lock ends with the database's session."""


def _lock_file(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.instance-{number}")


def _lock_files(path: Path) -> Iterator[Path]:
    return path.parent.glob(f"{glob.escape(path.name)}.instance-*")


def _is_named(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_left(path: Path) -> None:
    """Remove the lock files of instances that were killed."""
    for left in _lock_files(path):
        descriptor = try_lock(left)
        if descriptor is not None:
            with suppress(OSError):
                left.unlink(missing_ok=True)
            os.close(descriptor)

"""The two databases, and all in which they differ: opening, locking, and what an error means.

Both let one transaction write at a time: SQLite by its write lock, PostgreSQL by an advisory lock
that each writing transaction takes. A unit of work therefore sees everything before it and nothing
changes beside it, on either.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import URL, Connection, NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError

from tokenworks.errors import ConfigError, TokenworksError
from tokenworks.store.files import file_lock
from tokenworks.store.transaction import Transaction

BUSY_S: Final = 30.0
"""How long a transaction waits for another program's before it fails."""

_OLDEST_SQLITE = (3, 35)
_WRITERS_LOCK: Final = 7_209_063_541_130_211
"""Number of PostgreSQL's advisory lock; any would do that no other program uses."""

_FATAL_SQLITE: Final = {
    sqlite3.SQLITE_BUSY: "another program has held it for too long",
    sqlite3.SQLITE_LOCKED: "another program has held it for too long",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk failed, or is full",
    sqlite3.SQLITE_NOMEM: "memory is used up",
    sqlite3.SQLITE_READONLY: "it may not be written to",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database",
    sqlite3.SQLITE_PROTOCOL: "its locks do not work here",
}


class StoreError(TokenworksError):
    """The database could not do its work: it is full, locked, gone or damaged. Nothing of the
    transaction remains."""


class Dialect(Protocol):
    """What `Database` needs to know of one kind of database.

    `begin` starts a transaction that may write, `begin_reading` a consistent view.
    """

    @property
    def name(self) -> str: ...

    @property
    def begin(self) -> tuple[str, ...]: ...

    @property
    def begin_reading(self) -> tuple[str, ...]: ...

    def connect(self) -> Connection: ...

    def transaction(self, core: Connection) -> Transaction: ...

    def opening(self) -> AbstractContextManager[None]:
        """To hold while the database is made and migrated."""
        ...

    def fails_all(self, error: Exception) -> bool:
        """Whether not just a statement failed, but the transaction around it."""
        ...

    def explain(self, error: Exception) -> StoreError: ...


class Sqlite:
    name = "sqlite"
    begin = ("BEGIN IMMEDIATE",)
    begin_reading = ("BEGIN",)

    def __init__(self, path: Path, *, survive_power_cut: bool, busy_s: float = BUSY_S) -> None:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise ConfigError(
                f"SQLite {sqlite3.sqlite_version} of this Python is older than 3.35",
                hint="use a newer Python, or PostgreSQL: --database postgresql://...",
            )
        self.path = path
        self._synchronous = "FULL" if survive_power_cut else "NORMAL"
        self._engine = create_engine(
            URL.create("sqlite", database=str(path)),
            isolation_level="AUTOCOMMIT",  # transactions are begun and ended by our own statements
            skip_autocommit_rollback=True,
            poolclass=NullPool,
            connect_args={"timeout": busy_s, "check_same_thread": False},
        )

    def connect(self) -> Connection:
        core = self._engine.connect()
        driver: Any = core.connection.driver_connection
        try:
            (mode,) = driver.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise ConfigError(
                    f"The database {self.path} cannot keep a write-ahead log (it says {mode!r})",
                    hint="put it on a local disk; network folders do not share memory",
                )
            driver.execute(f"PRAGMA synchronous = {self._synchronous}")
            driver.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoints.py does it
            driver.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
        except BaseException:
            core.close()
            raise
        return core

    def transaction(self, core: Connection) -> Transaction:
        return Transaction(core, self.name, str)

    @contextmanager
    def opening(self) -> Iterator[None]:
        # Two processes that switch a new file to its write-ahead log at once fail, not wait.
        try:
            with file_lock(self.path.with_name(f"{self.path.name}.lock")):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                yield
        except OSError as problem:
            raise ConfigError(
                f"The database {self.path} cannot be opened: {problem.strerror}",
                hint="its folder must exist and be yours to write",
            ) from None

    def fails_all(self, error: Exception) -> bool:
        if not isinstance(error, sqlite3.Error):
            return False
        code = getattr(error, "sqlite_errorcode", None)
        # An error of the driver itself has no code: a connection that is closed, for instance.
        return isinstance(code, int) and code & 0xFF in _FATAL_SQLITE

    def explain(self, error: Exception) -> StoreError:
        cause = getattr(error, "orig", None) or error
        code = getattr(cause, "sqlite_errorcode", -1) & 0xFF
        why = _FATAL_SQLITE.get(code, str(cause))
        return StoreError(f"The database {self.path} could not be used: {why} ({cause})")


class Postgres:
    name = "postgresql"
    begin = ("BEGIN", f"SELECT pg_advisory_xact_lock({_WRITERS_LOCK})")
    begin_reading = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)

    def __init__(self, url: URL, *, busy_s: float = BUSY_S) -> None:
        self._shown = url.render_as_string(hide_password=True)
        self._patience = f"SET lock_timeout = {int(busy_s * 1000)}"
        try:
            self._engine = create_engine(
                url.set(drivername="postgresql+psycopg"),
                isolation_level="AUTOCOMMIT",
                skip_autocommit_rollback=True,
                poolclass=NullPool,
            )
        except ImportError:
            raise ConfigError(
                "PostgreSQL needs the driver psycopg, which is not installed",
                hint="pip install 'tokenworks[postgres]'",
            ) from None

    def connect(self) -> Connection:
        core = self._engine.connect()
        driver: Any = core.connection.driver_connection
        driver.execute(self._patience)
        return core

    def transaction(self, core: Connection) -> Transaction:
        return Transaction(core, self.name, _with_percent)

    @contextmanager
    def opening(self) -> Iterator[None]:
        yield  # the advisory lock of a transaction that writes is enough

    def fails_all(self, error: Exception) -> bool:
        # Of these classes are a lost server, a full disk, a lock that never came, a shutdown.
        driver: Any = self._engine.dialect.dbapi
        return isinstance(error, driver.OperationalError | driver.InterfaceError)

    def explain(self, error: Exception) -> StoreError:
        cause = getattr(error, "orig", None) or error
        return StoreError(f"The database {self._shown} could not be used: {str(cause).strip()}")


def dialect_of(url: str, *, survive_power_cut: bool = False, busy_s: float = BUSY_S) -> Dialect:
    """The database that `url` names: `sqlite:///FILE` or `postgresql://USER@HOST/NAME`.

    What was committed survives the end of any of our processes, on both. `survive_power_cut` makes
    SQLite wait for the disk at each commit; otherwise a power cut may take the last second or so,
    and leaves what was there before whole. A PostgreSQL server has its own setting for that.
    Raises ConfigError for any other, and where the driver is missing.
    """
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    except ArgumentError:
        parsed = URL.create("none")
    kind = parsed.get_backend_name() if parsed.drivername != "none" else ""
    if kind == "sqlite" and parsed.database and parsed.database != ":memory:" and not parsed.query:
        path = Path(parsed.database).absolute()
        return Sqlite(path, survive_power_cut=survive_power_cut, busy_s=busy_s)
    if kind == "postgresql" and parsed.database:
        return Postgres(parsed, busy_s=busy_s)
    raise ConfigError(
        "The database URL names no database that can be used here",
        hint="it looks like sqlite:///folder/tokenworks.db or postgresql://user@host/tokenworks",
    )


@cache
def _with_percent(sql: str) -> str:
    """Our statements hold no `?` that stands for itself."""
    return sql.replace("%", "%%").replace("?", "%s")

"""The one database of an installation: opened, migrated, written by one thread, read by another."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from tokenworks.errors import TokenworksError
from tokenworks.store.checkpoints import Checkpoints
from tokenworks.store.dialects import BUSY_S, Dialect, Sqlite, dialect_of
from tokenworks.store.migrations import STEPS, Step, migrate
from tokenworks.store.transaction import Transaction
from tokenworks.store.writer import Work, Writer

T = TypeVar("T")


class Database:
    """Opens what `url` names (see `dialect_of`) and brings its schema up to date.

    Raises ConfigError for a URL that names none, a schema that is newer than this program and a
    file that cannot be opened; StoreError if it is damaged, or locked for `busy_s` seconds. Other
    processes may use the same database meanwhile. `close` it, or use it in a `with` block.
    """

    def __init__(
        self,
        url: str,
        *,
        survive_power_cut: bool = False,
        busy_s: float = BUSY_S,
        wall: Callable[[], float] = time.time,
        steps: tuple[Step, ...] = STEPS,
    ) -> None:
        self._dialect = dialect_of(url, survive_power_cut=survive_power_cut, busy_s=busy_s)
        _open(self._dialect, wall, steps)
        self._checkpoints = (
            Checkpoints(self._dialect) if isinstance(self._dialect, Sqlite) else None
        )
        self._writer = Writer(self._dialect, after_commit=self._committed)
        if self._checkpoints is not None:
            self._checkpoints.start(self._writer)
        self._reader = _Reader(self._dialect)
        self._reading = ThreadPoolExecutor(1, "tokenworks-reader")

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    @property
    def waiting(self) -> int:
        """Units of work that wait for the writer."""
        return self._writer.waiting

    def submit(self, work: Work[T]) -> "asyncio.Future[T]":
        """Hand in a unit of work; it runs, in order, whether or not anybody awaits the result.

        The result comes once it is committed. A unit that raises leaves nothing behind and harms no
        other one. If the commit fails, all units in it get StoreError: with SQLite nothing of them
        remains; with a PostgreSQL server that was lost at that moment, they may have been done.
        """
        return self._writer.submit(work)

    async def write(self, work: Work[T]) -> T:
        """As `submit`, and wait. If whoever waits is cancelled, the unit is done all the same."""
        return await asyncio.shield(self._writer.submit(work))

    def write_now(self, work: Work[T]) -> T:
        """As `write`, for callers without an event loop."""
        return self._writer.call(work)

    async def read(self, query: Callable[[Transaction], T]) -> T:
        """Run a query in the reader's thread, on a view in which nothing changes meanwhile.

        Raises what it raises, or StoreError.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reading, self._reader.read, query)

    def read_now(self, query: Callable[[Transaction], T]) -> T:
        """As `read`, for callers without an event loop."""
        return self._reading.submit(self._reader.read, query).result()

    def keep(self, work: Work[object]) -> None:
        """Run this on the writer's connection, now and each time that it has to connect anew."""
        self._writer.keep(work)
        self._writer.call(work)

    def scrub(self) -> None:
        """Something was deleted that nobody shall find in the files: SQLite's log is emptied, soon
        after. A PostgreSQL server keeps deleted rows until its own vacuum."""
        if self._checkpoints is not None:
            self._checkpoints.scrub()

    def close(self) -> None:
        """Commit what waits and end all threads."""
        self._writer.close()
        if self._checkpoints is not None:
            self._checkpoints.close()
        self._reading.submit(self._reader.close).result()
        self._reading.shutdown()

    def __enter__(self) -> "Database":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _committed(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.touch()


class _Reader:
    """The reader's connection, made when first needed; all of it happens in one thread."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._core: Connection | None = None

    def read(self, query: Callable[[Transaction], T]) -> T:
        try:
            if self._core is None:
                self._core = self._dialect.connect()
            transaction = self._dialect.transaction(self._core)
            for statement in self._dialect.begin_reading:
                transaction.run(statement)
            try:
                return query(transaction)
            finally:
                transaction.run("ROLLBACK")
        except Exception as error:
            cause = getattr(error, "orig", None) or error
            if isinstance(error, SQLAlchemyError) or self._dialect.fails_all(cause):
                self.close()
                raise self._dialect.explain(error) from error
            raise

    def close(self) -> None:
        core, self._core = self._core, None
        if core is not None:
            with suppress(Exception):  # of a connection that is lost
                core.invalidate()
            with suppress(Exception):
                core.close()


def _open(dialect: Dialect, wall: Callable[[], float], steps: tuple[Step, ...]) -> None:
    """Make the database if there is none and migrate it; one process at a time, in one
    transaction."""
    with dialect.opening():
        try:
            with dialect.connect() as core:
                transaction = dialect.transaction(core)
                for statement in dialect.begin:
                    transaction.run(statement)
                migrate(transaction, steps, wall())
                transaction.run("COMMIT")
        except TokenworksError:
            raise
        except Exception as error:
            raise dialect.explain(error) from error

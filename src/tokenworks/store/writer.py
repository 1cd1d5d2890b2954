"""The one thread of a process that writes: units of work in, commits of many at once out.

Group commit: whatever waits when the thread is free becomes one transaction, so that a commit's
cost is shared by all who wait for one. Each unit has a savepoint of its own and harms no other by
failing. A result is told only after the commit that holds it.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection

from tokenworks.store.dialects import Dialect, StoreError
from tokenworks.store.transaction import Transaction

T = TypeVar("T")
Work = Callable[[Transaction], T]
"""A unit of work. It runs in the writer's thread, all or nothing, and raises to undo itself."""

MOST_UNITS = 256
"""Units in one transaction: beyond this many a commit's cost hardly shows, and the first wait."""


@dataclass(slots=True)
class _Unit:
    work: Work[Any]
    future: "asyncio.Future[Any] | Future[Any]"
    loop: asyncio.AbstractEventLoop | None
    outcome: object = None
    error: BaseException | None = None

    def settle(self) -> None:
        if self.future.done():
            return  # whoever waited has left; the work is done all the same
        if isinstance(self.error, StopIteration):  # no future can hold one
            self.error = RuntimeError(f"a unit of work raised {self.error!r}")
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.outcome)


class Writer:
    """`on_connect` runs on each new connection before anything else, `after_commit` after each."""

    def __init__(self, dialect: Dialect, *, after_commit: Callable[[], None]) -> None:
        self._dialect = dialect
        self._after_commit = after_commit
        self._on_connect: list[Work[object]] = []
        self._between: Callable[[Transaction], None] | None = None
        self._waiting: SimpleQueue[_Unit | None] = SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._core: Connection | None = None
        self._transaction: Transaction | None = None
        self._thread = threading.Thread(target=self._run, name="tokenworks-writer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Units that wait for their turn."""
        return self._waiting.qsize()

    def submit(self, work: Work[T]) -> "asyncio.Future[T]":
        """Hand in a unit from a running event loop; it runs even if nobody awaits the result.

        Units run in the order in which they were handed in. The future raises what the unit raised,
        or StoreError.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Unit(work, future, loop))
        return future

    def call(self, work: Work[T]) -> T:
        """Hand in a unit and block until it is committed. Raises what it raised, or StoreError."""
        future: Future[T] = Future()
        self._put(_Unit(work, future, None))
        return future.result()

    def keep(self, work: Work[object]) -> None:
        """Run this at the start of every later connection, outside a transaction."""
        self._on_connect.append(work)

    def soon(self, work: Callable[[Transaction], None]) -> None:
        """Run this once, between two transactions. Another call before then replaces it."""
        self._between = work

    def close(self) -> None:
        """Commit what waits, then end. Later units fail."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _put(self, unit: _Unit) -> None:
        with self._closing:
            if self._closed:
                raise StoreError("The database is closed already")
            self._waiting.put(unit)

    def _run(self) -> None:
        ended = False
        while not ended:
            batch: list[_Unit] = []
            unit = self._waiting.get()
            while unit is not None:
                batch.append(unit)
                if len(batch) == MOST_UNITS:
                    break
                try:
                    unit = self._waiting.get_nowait()
                except Empty:
                    break
            ended = unit is None
            if batch:
                self._commit(batch)
                _deliver(batch)
            self._do_between()
        self._disconnect()

    def _commit(self, batch: list[_Unit]) -> None:
        try:
            transaction = self._transaction or self._connect()
            for statement in self._dialect.begin:
                transaction.run(statement)
            if len(batch) == 1:
                self._alone(transaction, batch[0])
            else:
                for unit in batch:
                    self._among_others(transaction, unit)
                transaction.run("COMMIT")
        except Exception as error:
            # Whether a commit that failed took place is unknown where the server was lost; with
            # SQLite it did not. Units are told that they failed, and must bear being done twice.
            self._disconnect()
            for unit in batch:
                unit.error = self._failure(error)
        else:
            self._after_commit()

    def _alone(self, transaction: Transaction, unit: _Unit) -> None:
        """What it did is the whole transaction, which needs no savepoint inside."""
        transaction.run("COMMIT" if self._works(transaction, unit) else "ROLLBACK")

    def _among_others(self, transaction: Transaction, unit: _Unit) -> None:
        transaction.run("SAVEPOINT unit")
        if not self._works(transaction, unit):
            transaction.run("ROLLBACK TO SAVEPOINT unit")
        transaction.run("RELEASE SAVEPOINT unit")

    def _works(self, transaction: Transaction, unit: _Unit) -> bool:
        """Whether the unit did not fail. Raises what fails all of the transaction."""
        try:
            unit.outcome = unit.work(transaction)
        except BaseException as error:  # whatever it is: it must not end the thread
            if isinstance(error, Exception) and self._dialect.fails_all(_cause(error)):
                raise
            unit.error = error
            return False
        return True

    def _failure(self, error: Exception) -> Exception:
        return error if isinstance(error, StoreError) else self._dialect.explain(error)

    def _connect(self) -> Transaction:
        self._core = core = self._dialect.connect()
        transaction = self._dialect.transaction(core)
        for work in self._on_connect:
            work(transaction)
        self._transaction = transaction
        return transaction

    def _disconnect(self) -> None:
        """Undo what is not committed, as closing does; the next batch connects anew."""
        core, self._core, self._transaction = self._core, None, None
        if core is not None:
            with suppress(Exception):  # of a connection that is lost
                core.invalidate()
            with suppress(Exception):
                core.close()

    def _do_between(self) -> None:
        work, self._between = self._between, None
        if work is not None and self._transaction is not None:
            try:
                work(self._transaction)
            except Exception:
                self._disconnect()


def _cause(error: Exception) -> Exception:
    """The driver's own error, also where SQLAlchemy has wrapped it."""
    original = getattr(error, "orig", None)
    return original if isinstance(original, Exception) else error


def _deliver(batch: list[_Unit]) -> None:
    """Tell everybody; each event loop is woken once for all of its units."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Unit]] = {}
    for unit in batch:
        if unit.loop is None:
            unit.settle()
        else:
            by_loop.setdefault(unit.loop, []).append(unit)
    for loop, units in by_loop.items():
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(_settle, units)


def _settle(units: list[_Unit]) -> None:
    for unit in units:
        unit.settle()

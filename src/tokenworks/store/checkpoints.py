"""Moves SQLite's write-ahead log into its database, beside the writer instead of in its way.

A commit then never waits for a disk to catch up, and a second later it would survive a power cut.
"""

import sqlite3
import threading
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from tokenworks.errors import TokenworksError
from tokenworks.store.dialects import Sqlite
from tokenworks.store.transaction import Transaction
from tokenworks.store.writer import Writer

AFTER_S: Final = 1.0
"""How long a commit may wait for its checkpoint."""

MOST_PAGES: Final = 16_000
"""Pages of 4 kB in the log from which on the writer waits for it to be moved. Without a pause in
the load no checkpoint may ever catch up."""

_PASSES: Final = 5
_PATIENCE_MS: Final = 100
"""How long emptying the log waits for whoever reads or writes, and they for it."""


class Checkpoints:
    """A thread that sleeps until something was committed, waits a second and checkpoints."""

    def __init__(self, dialect: Sqlite, *, after_s: float = AFTER_S) -> None:
        self._dialect = dialect
        self._after_s = after_s
        self._written = threading.Event()
        self._ended = threading.Event()
        self._scrub = True  # also after a process that was killed before it could
        self._writer: Writer | None = None
        self._thread = threading.Thread(
            target=self._run, name="tokenworks-checkpoints", daemon=True
        )

    def start(self, writer: Writer) -> None:
        self._writer = writer
        self._thread.start()

    def touch(self) -> None:
        """Something was committed."""
        if not self._written.is_set():
            self._written.set()

    def scrub(self) -> None:
        """Something was deleted: leave nothing of it in the log either."""
        self._scrub = True
        self.touch()

    def close(self) -> None:
        self._ended.set()
        self._written.set()
        self._thread.join()

    def _run(self) -> None:
        core: Connection | None = None
        while self._written.wait() and not self._ended.wait(self._after_s):
            self._written.clear()
            try:
                core = core or self._connect()
                pages = _checkpoint(core)
                scrub, self._scrub = self._scrub, False
                if scrub and not _empty(core):
                    self.scrub()
            except (SQLAlchemyError, sqlite3.Error, TokenworksError):
                continue  # a full disk, for instance: the writer meets it too, and says so
            if pages > MOST_PAGES and self._writer is not None:
                self._writer.soon(_start_anew)
        if core is not None:
            core.close()

    def _connect(self) -> Connection:
        core = self._dialect.connect()
        core.exec_driver_sql(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
        return core


def _checkpoint(core: Connection) -> int:
    """Pages in the log, 0 if all of them were moved and the writer can start it anew by itself.

    A pass moves what was there at its beginning. Each has less to move than the one before, so that
    soon one has nothing to.
    """
    before = written = -1
    for _ in range(_PASSES):
        before = written
        _, written, moved = core.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").one()
        if moved == written == before:
            return 0
    return written


def _empty(core: Connection) -> bool:
    """Cut the log to nothing, once nobody reads from it. False if somebody still does."""
    busy, _, _ = core.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
    return not busy


def _start_anew(transaction: Transaction) -> None:
    transaction.rows("PRAGMA wal_checkpoint(RESTART)")

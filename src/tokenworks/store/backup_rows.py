"""All rows of one database into another, whichever kind either is.

The form in between is an SQLite file of our own schema: both kinds have the same tables, of the
same three types.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine

from tokenworks.errors import ConfigError
from tokenworks.store.database import Database
from tokenworks.store.dialects import Dialect, Sqlite, StoreError
from tokenworks.store.migrations import STEPS, Step, migrate
from tokenworks.store.transaction import Transaction

Select = Callable[[str], Iterable[Sequence[Any]]]
"""Rows of a query, one after the other."""

PAGE: Final = 1000
_STEPS_TABLE: Final = "schema_steps"


def tables_of(steps: tuple[Step, ...]) -> dict[str, tuple[str, ...]]:
    """The columns of each table that these steps make, but for the one that lists the steps."""
    with create_engine("sqlite://", isolation_level="AUTOCOMMIT").connect() as core:
        transaction = Transaction(core, "sqlite", str)
        migrate(transaction, steps, 0.0)
        names = [
            name
            for (name,) in transaction.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
            if name != _STEPS_TABLE and not name.startswith("sqlite_")
        ]
        found = {
            name: tuple(row[1] for row in transaction.rows(f"PRAGMA table_info({name})"))
            for name in names
        }
        core.invalidate()
    return found


def step_of(select: Select) -> int:
    """The schema's step of a database. Raises what the database does if it is none of ours."""
    return next(iter(select(f"SELECT max(step) FROM {_STEPS_TABLE}")))[0] or 0


def copy(select: Select, target: Transaction, steps: tuple[Step, ...]) -> None:
    """Add all rows of the tables that these steps make."""
    for table, columns in tables_of(steps).items():
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        rows = (tuple(row) for row in select(f"SELECT {names} FROM {table}"))
        target.many(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)


def snapshot(dialect: Dialect, into: Path) -> int:
    """Write the database as it is at this moment to an SQLite file, while others use it.

    Returns the schema's step. Raises ConfigError if there is none of ours, StoreError.
    """
    try:
        if isinstance(dialect, Sqlite):
            _copy_pages(dialect, into)
        else:
            _copy_rows(dialect, into)
        with closing(sqlite3.connect(into)) as copied:
            copied.execute("PRAGMA journal_mode = DELETE")
            (found,) = copied.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise StoreError(f"The database is damaged, and cannot be backed up: {found}")
            return step_of(copied.execute)
    except sqlite3.DatabaseError as problem:
        raise StoreError(f"The database cannot be backed up: {problem}") from None


def selecting(path: Path) -> "closing[sqlite3.Connection]":
    """The SQLite file of a backup, to read rows from."""
    source = f"{path.as_uri()}?mode=ro"
    return closing(sqlite3.connect(source, uri=True, check_same_thread=False))


def _copy_pages(dialect: Sqlite, into: Path) -> None:
    """By SQLite's online backup: all pages in one step are one view, and no writer waits."""
    if not dialect.path.exists():
        raise ConfigError(f"There is no database {dialect.path} to back up")
    with dialect.connect() as core, closing(sqlite3.connect(into)) as target:
        driver: Any = core.connection.driver_connection
        driver.backup(target, pages=-1)


def _copy_rows(dialect: Dialect, into: Path) -> None:
    with dialect.connect() as core:
        transaction = dialect.transaction(core)
        for statement in dialect.begin_reading:
            transaction.run(statement)
        if transaction.row("SELECT to_regclass(?)", _STEPS_TABLE) == (None,):
            raise ConfigError("There is nothing in this database to back up")

        def select(sql: str) -> Iterator[Sequence[Any]]:
            return iter(core.execution_options(yield_per=PAGE).exec_driver_sql(sql))

        steps = STEPS[: step_of(transaction.rows)]
        with Database(f"sqlite:///{into}", steps=steps) as target:
            target.write_now(lambda copied: copy(select, copied, steps))
        transaction.run("ROLLBACK")
    into.with_name(f"{into.name}.lock").unlink(missing_ok=True)

"""What a unit of work sees of the database: statements inside one transaction."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Executable

Row = tuple[Any, ...]


class Transaction:
    """Statements are plain SQL with `?` for each value, or built by SQLAlchemy's expressions.

    What runs on each request uses plain text: the driver keeps it prepared, and building the same
    statement anew would take longer than running it.
    """

    __slots__ = ("_core", "_cursor", "_execute", "_translate", "dialect")

    def __init__(self, core: Connection, dialect: str, translate: Callable[[str], str]) -> None:
        driver: Any = core.connection.driver_connection
        self._core = core
        self._execute = driver.execute
        self._cursor = driver.cursor
        self._translate = translate
        self.dialect = dialect
        """`sqlite` or `postgresql`, for the few statements that differ."""

    def run(self, sql: str, *values: object) -> int:
        """Run a statement; returns how many rows it changed."""
        changed: int = self._execute(self._translate(sql), values).rowcount
        return changed

    def many(self, sql: str, values: Iterable[Sequence[object]]) -> int:
        """Run a statement for each tuple of values; returns how many rows were changed in all."""
        cursor = self._cursor()
        try:
            cursor.executemany(self._translate(sql), values)
            changed: int = cursor.rowcount
        finally:
            cursor.close()
        return changed

    def rows(self, sql: str, *values: object) -> list[Row]:
        found: list[Row] = self._execute(self._translate(sql), values).fetchall()
        return found

    def row(self, sql: str, *values: object) -> Row | None:
        """The first row of the answer, or None if it has none."""
        found: Row | None = self._execute(self._translate(sql), values).fetchone()
        return found

    def select(self, statement: Executable) -> list[Row]:
        """Rows of a statement that was built by SQLAlchemy's expressions."""
        return [tuple(row) for row in self._core.execute(statement)]

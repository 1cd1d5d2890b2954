"""The ledger for other programs: rows as CSV or JSON, a page at a time."""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final

import msgspec

from tokenworks.accounts import ledger
from tokenworks.accounts.ledger import COLUMNS, LedgerRow
from tokenworks.store.database import Database

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that spreadsheets would run."""


async def pages(
    database: Database, *, since: float, until: float, tenant: str | None = None
) -> AsyncIterator[list[LedgerRow]]:
    """Requests with `since` <= at < `until` (seconds since 1970 UTC) in order of time. However many
    they are, a page of them is in memory."""
    after = (float("-inf"), "")
    while True:
        query = partial(ledger.page, since=since, until=until, tenant=tenant, after=after)
        rows = await database.read(query)
        if not rows:
            return
        yield rows
        after = rows[-1].at, rows[-1].id


def csv_header() -> str:
    return _lines([COLUMNS])


def csv_lines(rows: Sequence[LedgerRow]) -> str:
    """No cell is a formula to a spreadsheet, whatever name somebody chose."""
    return _lines([[_cell(getattr(row, name)) for name in COLUMNS] for row in rows])


def json_lines(rows: Sequence[LedgerRow]) -> str:
    """One JSON object a line, with the ledger's columns as names."""
    return "".join(f"{msgspec.json.encode(row).decode()}\n" for row in rows)


def _lines(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value

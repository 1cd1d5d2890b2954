"""The books for other programs: the ledger as CSV or JSON, a page at a time; sums as CSV."""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final

import msgspec

from tokenworks.accounts import ledger
from tokenworks.accounts.ledger import COLUMNS, LedgerRow
from tokenworks.accounts.usage import Bill, UsageRow
from tokenworks.store.database import Database

_SUMMED: Final = tuple(name for name in UsageRow.__struct_fields__ if name != "group")
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


def bills_csv(bills: Sequence[Bill]) -> str:
    """Their lines, each with its tenant and month."""
    lines = [(bill, line) for bill in bills for line in bill.lines]
    groups = [name for name in (lines[0][1].group if lines else ()) if name != "tenant"]
    header = ["tenant", "month", *groups, *_SUMMED]
    rows = [
        [
            *map(_cell, (bill.tenant, bill.month, *(line.group[name] for name in groups))),
            *(_cell(getattr(line, name)) for name in _SUMMED),
        ]
        for bill, line in lines
    ]
    return _lines([header, *rows])


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

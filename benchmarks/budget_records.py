"""Compares what a backend says it was paid for with what the ledger and the budgets say."""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenworks.accounts.holders import Caller


@dataclass(frozen=True)
class Books:
    """A tenant's requests (status and money by id), each one's entries (sum and number), and what
    each holder has spent and still reserved. Money in micro-units."""

    requests: Mapping[str, tuple[str, int]]
    entries: Mapping[str, tuple[int, int]]
    spending: Mapping[str, tuple[int, int]]


def read_books(database: Path, caller: Caller) -> Books:
    """Read by SQLite itself, without anything of ours in between."""
    reader = sqlite3.connect(database)
    requests = reader.execute(
        "SELECT id, status, money FROM requests WHERE tenant = ?", (caller.tenant,)
    ).fetchall()
    entries = reader.execute(
        "SELECT e.request_id, SUM(e.money), COUNT(*) FROM entries e "
        "JOIN requests r ON r.id = e.request_id WHERE r.tenant = ? GROUP BY e.request_id",
        (caller.tenant,),
    ).fetchall()
    spending = reader.execute(
        "SELECT holder, spent, reserved FROM spending WHERE holder IN (?, ?, ?)", caller.holders
    ).fetchall()
    reader.close()
    return Books(
        {name: (status, money) for name, status, money in requests},
        {name: (total, count) for name, total, count in entries},
        {holder: (spent, reserved) for holder, spent, reserved in spending},
    )


def differences(
    paid: Mapping[str, int], answered: set[str], books: Books, limit: int
) -> Iterator[str]:
    """What is wrong: a budget overrun, or a request that is missing, doubled or wrong."""
    if sum(paid.values()) > limit:
        yield f"{sum(paid.values())} was paid of {limit}"
    for name in paid.keys() - books.requests.keys():
        yield f"{name} was paid for and is not in the ledger"
    for name in answered - paid.keys():
        yield f"{name} was answered and not paid for"
    for name, (status, money) in books.requests.items():
        cost = paid.get(name, 0)
        if money < cost or (status != "lost" and money != cost):
            yield f"{name} has cost {cost}, and the ledger says {money}, {status}"
        if books.entries.get(name) != (0, 2):
            yield f"{name} has entries {books.entries.get(name)}"
    booked = sum(money for _, money in books.requests.values())
    for holder, (spent, reserved) in books.spending.items():
        if (spent, reserved) != (booked, 0) or spent > limit:
            yield f"{holder} has spent {spent} and reserved {reserved}, {booked} is booked"
    if len(books.spending) != 3:
        yield f"{len(books.spending)} budgets of 3 were used"

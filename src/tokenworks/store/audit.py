"""Who changed what: a log in which each row's hash covers the one before it.

A row that was changed, removed or put in between breaks the chain from there on. That the newest
rows were cut off shows only to who kept a `Head` elsewhere, and whoever can write to the database
can also write a whole new chain: keep heads where they cannot.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from tokenworks.store.transaction import Row, Transaction

FIRST_HASH: Final = "0" * 64
"""What the first row's hash covers in place of one before it."""

_PAGE: Final = 1000


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """`actor` did `action` to `subject`, e.g. `key:…` `budget.set` `tenant:acme`."""

    number: int
    at_ms: int
    actor: str
    action: str
    subject: str
    details: str
    hash: str


class Head(msgspec.Struct, frozen=True):
    """The newest row, to be kept elsewhere."""

    number: int
    hash: str


class Broken(msgspec.Struct, frozen=True):
    """The first row that is not as it was written."""

    number: int
    why: str


def append(
    transaction: Transaction,
    *,
    at: float,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, object] | None = None,
) -> Head:
    """Write down a change in the transaction that makes it. `details` are JSON; no secrets."""
    before = head(transaction)
    number, at_ms = before.number + 1, round(at * 1000)
    text = _canonical(dict(details or {}))
    digest = _hash(before.hash, number, at_ms, actor, action, subject, text)
    values = (number, at_ms, actor, action, subject, text, digest)
    transaction.run("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", *values)
    return Head(number, digest)


def head(transaction: Transaction) -> Head:
    """The newest row's number and hash; number 0 if there is none."""
    newest = transaction.row("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
    return Head(*newest) if newest else Head(0, FIRST_HASH)


def read(transaction: Transaction, *, after: int = 0, limit: int = _PAGE) -> list[AuditRow]:
    """Rows in the order in which they were written, from the one after number `after`."""
    found = transaction.rows(
        "SELECT number, at_ms, actor, action, subject, details, hash FROM audit "
        "WHERE number > ? ORDER BY number LIMIT ?",
        after,
        limit,
    )
    return [_audit_row(row) for row in found]


def verify(transaction: Transaction, *, kept: Head | None = None) -> Broken | None:
    """The first row that was changed, is missing or was put in; None if all are as written.

    With a head that was `kept`, also rows that were cut off at the end, or a chain made anew.
    """
    number, before = 0, FIRST_HASH
    for row in _all(transaction):
        number += 1
        if row.number != number:
            return Broken(number, "it is missing")
        told = (row.at_ms, row.actor, row.action, row.subject, row.details)
        if row.hash != _hash(before, number, *told):
            return Broken(number, "its hash does not fit it and the row before it")
        if kept is not None and kept.number == number and kept.hash != row.hash:
            return Broken(number, "it is not the row whose hash was kept")
        before = row.hash
    if kept is not None and kept.number > number:
        return Broken(number + 1, "it was cut off, with all that followed")
    return None


def _all(transaction: Transaction) -> Iterator[AuditRow]:
    after = -(2**62)  # rows numbered below 1 are none of ours, and must show
    while page := read(transaction, after=after):
        yield from page
        after = page[-1].number


def _audit_row(row: Row) -> AuditRow:
    number, at_ms, actor, action, subject, details, digest = row
    return AuditRow(
        number=number,
        at_ms=at_ms,
        actor=actor,
        action=action,
        subject=subject,
        details=details,
        hash=digest,
    )


def _hash(before: str, *fields: int | str) -> str:
    return hashlib.sha256(_canonical([before, *fields]).encode()).hexdigest()


def _canonical(value: object) -> str:
    """One text for one value: JSON in ASCII, names sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)

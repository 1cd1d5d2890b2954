"""Sums of the ledger: who used what, and what a tenant owes for a month."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, case, column, func, select, table

from tokenworks.accounts.ledger import COLUMNS
from tokenworks.errors import RequestError
from tokenworks.store.transaction import Transaction

GROUPS: Final[dict[str, str]] = {
    "tenant": "tenant",
    "user": "user_name",
    "key": "key_id",
    "model": "model",
    "backend": "backend",
    "tier": "tier",
    "label": "label",
    "status": "status",
    "day": "day",
}
"""What requests can be grouped and chosen by, and the ledger's column for it."""

_REQUESTS: Final = table("requests", *(column(name) for name in COLUMNS))
_SUMS: Final = (
    *("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"),
    *("tokens", "money", "energy_j"),
)
BY_BACKEND: Final = ("model", "backend")
_MONTH: Final = re.compile(r"[12]\d{3}-(0[1-9]|1[0-2])")


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the requests of one group. Money in micro-units; `excess` is what went beyond
    reservations, `lost` how many requests were lost with their gateway.

    Times in milliseconds, None where no request has any: `first_token_ms` until the first token and
    `gap_p50_ms` between pieces are averages, over requests and over their medians; `gap_p99_ms` is
    the longest of the requests' 99th percentiles.
    """

    group: dict[str, str]
    requests: int
    lost: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    tokens: int
    money: int
    excess: int
    energy_j: float
    first_token_ms: float | None = None
    gap_p50_ms: float | None = None
    gap_p99_ms: float | None = None


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant owes for a month of UTC, line by line; a request is in the line of the backend
    that ended it. `backends`: what each is owed, of answers that several worked for each its part.
    """

    tenant: str
    month: str
    lines: tuple[UsageRow, ...]
    backends: dict[str, int] = {}

    @property
    def money(self) -> int:
        return sum(line.money for line in self.lines)


def usage(
    transaction: Transaction,
    *,
    by: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
    where: Mapping[str, str] | None = None,
) -> list[UsageRow]:
    """Sums of requests, grouped by names of `GROUPS`; days `since` <= day < `until`, as 2026-11-28.

    Raises RequestError for a group or a day that is none.
    """
    groups = {name: column_of(name, "by") for name in by}
    columns: list[ColumnElement[Any]] = [*groups.values(), *_sums()]
    chosen = select(*columns).select_from(_REQUESTS)
    if since is not None:
        chosen = chosen.where(_REQUESTS.c.at >= _start_of_day(since, "since"))
    if until is not None:
        chosen = chosen.where(_REQUESTS.c.at < _start_of_day(until, "until"))
    for name, value in (where or {}).items():
        chosen = chosen.where(column_of(name, name) == value)
    if groups:
        chosen = chosen.group_by(*groups.values()).order_by(*groups.values())
    return [
        _usage_row(tuple(groups), row) for row in transaction.select(chosen) if groups or row[0]
    ]


def bill(transaction: Transaction, tenant: str, month: str, by: Sequence[str] = BY_BACKEND) -> Bill:
    """What a tenant owes for a month, as 2026-11. Raises RequestError for what is no month, and for
    a group that is none."""
    if not _MONTH.fullmatch(month):
        raise RequestError(f"{month[:40]!r} is no month", hint="e.g. 2026-11", param="month")
    first = f"{month}-01"
    after = (datetime.strptime(first, "%Y-%m-%d") + timedelta(days=32)).strftime("%Y-%m-01")
    lines = usage(transaction, by=by, since=first, until=after, where={"tenant": tenant})
    owed = transaction.rows(
        "SELECT e.account, SUM(e.money) FROM entries e JOIN requests r ON r.id = e.request_id "
        "WHERE r.tenant = ? AND r.at >= ? AND r.at < ? AND e.account LIKE 'backend:%' "
        "GROUP BY e.account ORDER BY e.account",
        *(tenant, _start_of_day(first, "month"), _start_of_day(after, "month")),
    )
    backends = {account.removeprefix("backend:"): -int(money) for account, money in owed}
    return Bill(tenant=tenant, month=month, lines=tuple(lines), backends=backends)


def column_of(name: str, param: str) -> ColumnElement[str]:
    if name not in GROUPS:
        raise RequestError(
            f"Requests cannot be grouped by {name[:40]!r}",
            hint=f"there are {', '.join(GROUPS)}",
            param=param,
        )
    return _REQUESTS.c[GROUPS[name]]


def _sums() -> list[ColumnElement[Any]]:
    requests = _REQUESTS.c
    excess = case((requests.money > requests.reserved, requests.money - requests.reserved), else_=0)
    return [
        func.count(),
        func.sum(case((requests.status == "lost", 1), else_=0)),
        func.sum(excess),
        *(func.sum(requests[name]) for name in _SUMS),
        func.avg(requests.first_token_ms),
        func.avg(requests.gap_p50_ms),
        func.max(requests.gap_p99_ms),
    ]


def _usage_row(names: Sequence[str], row: tuple[object, ...]) -> UsageRow:
    group = dict(zip(names, map(str, row), strict=False))
    requests, lost, excess, *sums = row[len(names) :]
    # PostgreSQL adds whole numbers up to decimals.
    *counts, energy_j = sums[: len(_SUMS)]
    whole = {name: int(str(value)) for name, value in zip(_SUMS[:-1], counts, strict=True)}
    first_token_ms, gap_p50_ms, gap_p99_ms = map(_float, sums[len(_SUMS) :])
    return UsageRow(
        group=group,
        requests=int(str(requests)),
        lost=int(str(lost)),
        excess=int(str(excess)),
        energy_j=float(str(energy_j or 0)),
        first_token_ms=first_token_ms,
        gap_p50_ms=gap_p50_ms,
        gap_p99_ms=gap_p99_ms,
        **whole,
    )


def _float(value: object) -> float | None:
    return None if value is None else float(str(value))


def _start_of_day(day: str, param: str) -> float:
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise RequestError(f"{day[:40]!r} is no day", hint="e.g. 2026-11-28", param=param) from None

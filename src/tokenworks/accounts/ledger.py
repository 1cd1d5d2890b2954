"""The ledger: one row for each request, and double entry for the money in it."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from tokenworks.store.transaction import Row, Transaction

Status = Literal["answered", "cancelled", "failed", "lost"]
"""How a request ended; `lost`: its gateway died, and what was reserved counts as spent."""


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A request. Money in micro-units, times in seconds since 1970 UTC or in milliseconds.

    `cached_tokens` are part of the prompt's, `reasoning_tokens` of the completion's. `tokens` and
    `money` are what counted for budgets; what went beyond `reserved` is `excess`. `route` is the
    reason for the backend, as short JSON.
    """

    id: str
    at: float
    day: str
    tenant: str
    user_name: str
    key_id: str
    model: str
    backend: str
    tier: str
    label: str
    status: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    tokens: int
    money: int
    reserved: int
    reserved_tokens: int
    energy_j: float | None
    first_token_ms: float | None
    gap_p50_ms: float | None
    gap_p99_ms: float | None
    attempts: int
    route: str

    @property
    def excess(self) -> int:
        """Money beyond what was reserved: what no reservation could bound."""
        return max(0, self.money - self.reserved)


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway knows of a request that has ended; whom it is billed to was reserved.

    `costs` are micro-units by backend: several of them where an answer began on another one. The
    ledger's row names the one that ended it.
    """

    request_id: str
    status: Status
    costs: tuple[tuple[str, int], ...] = ()
    backend: str = ""
    tier: str = ""
    label: str = ""
    model: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    energy_j: float | None = None
    first_token_ms: float | None = None
    gap_p50_ms: float | None = None
    gap_p99_ms: float | None = None
    attempts: int = 1
    route: str = "{}"

    def bounded(self) -> "Settlement":
        """The same with figures that the books can add up: backends may report any number."""
        return msgspec.structs.replace(
            self,
            costs=tuple((backend, _bounded(cost)) for backend, cost in self.costs),
            prompt_tokens=_bounded(self.prompt_tokens),
            cached_tokens=_bounded(self.cached_tokens),
            completion_tokens=_bounded(self.completion_tokens),
            reasoning_tokens=_bounded(self.reasoning_tokens),
        )

    @property
    def money(self) -> int:
        return sum(cost for _, cost in self.costs)

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


MOST_REPORTED: Final = 2**40
"""A million dollars, or a million million tokens: no request has more, whoever says so."""

COLUMNS: Final = LedgerRow.__struct_fields__
_INSERT: Final = (
    f"INSERT INTO requests ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
)
_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM requests"

Entry = tuple[str, int]
"""An account, e.g. `tenant:acme` or `backend:cloud`, and what it is charged; negative: credited."""


def entries_of(tenant: str, costs: Iterable[tuple[str, int]]) -> list[Entry]:
    """A tenant owes what backends are owed. Nothing for what is free."""
    found = [(f"backend:{backend or 'unknown'}", -cost) for backend, cost in costs if cost]
    if found:
        found.append((f"tenant:{tenant}", -sum(cost for _, cost in found)))
    return found


def write(transaction: Transaction, row: LedgerRow, entries: Sequence[Entry]) -> None:
    """Write a request down, once: a second time fails, whatever it says."""
    transaction.run(_INSERT, *(getattr(row, name) for name in COLUMNS))
    post(transaction, row.id, entries)


def correct(transaction: Transaction, row: LedgerRow, entries: Sequence[Entry]) -> None:
    """Replace a row that was written for lost by what is known now; its entries are reversed by
    others, so that both can be seen."""
    before = transaction.rows(
        "SELECT account, money FROM entries WHERE request_id = ? ORDER BY number", row.id
    )
    transaction.run("DELETE FROM requests WHERE id = ?", row.id)
    transaction.run(_INSERT, *(getattr(row, name) for name in COLUMNS))
    reversed_ones = [(account, -money) for account, money in before]
    post(transaction, row.id, [*reversed_ones, *entries], first=len(before))


def post(
    transaction: Transaction, request_id: str, entries: Sequence[Entry], *, first: int = 0
) -> None:
    """Add entries of a request. Raises ValueError unless they add up to zero."""
    if sum(money for _, money in entries) != 0:
        raise ValueError(f"entries of {request_id} do not add up to zero: {entries}")
    if entries:
        transaction.many(
            "INSERT INTO entries VALUES (?, ?, ?, ?)",
            [(request_id, number, *entry) for number, entry in enumerate(entries, first)],
        )


def find(transaction: Transaction, request_id: str) -> LedgerRow | None:
    row = transaction.row(f"{_SELECT} WHERE id = ?", request_id)
    return _ledger_row(row) if row else None


def page(
    transaction: Transaction,
    *,
    since: float,
    until: float,
    tenant: str | None = None,
    after: tuple[float, str] = (float("-inf"), ""),
    limit: int = 500,
) -> list[LedgerRow]:
    """Requests with `since` <= at < `until` in order of time, from the one after `after` on."""
    at, request_id = max(after, (since, ""))
    of_tenant = "" if tenant is None else "AND tenant = ? "
    rows = transaction.rows(
        f"{_SELECT} WHERE at >= ? AND at < ? AND (at > ? OR id > ?) {of_tenant}"
        "ORDER BY at, id LIMIT ?",
        *(at, until, at, request_id),
        *(() if tenant is None else (tenant,)),
        limit,
    )
    return [_ledger_row(row) for row in rows]


def _bounded(number: int) -> int:
    return min(max(0, number), MOST_REPORTED)


def _ledger_row(row: Row) -> LedgerRow:
    return LedgerRow(**dict(zip(COLUMNS, row, strict=True)))

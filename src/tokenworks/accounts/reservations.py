"""Reserve and settle, as units of work: each is one transaction, whole or not at all.

A request's reservation is committed before anything is sent to a backend. Ending it moves what was
reserved to what was spent and writes the ledger, in one transaction, so that a request is in the
ledger exactly once however often it is settled. Reservations of a process that died are booked in
full: the money may have been spent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from tokenworks.accounts import key_rows, ledger, spending
from tokenworks.accounts.holders import Caller
from tokenworks.accounts.ledger import LedgerRow, Settlement
from tokenworks.accounts.periods import day_of
from tokenworks.accounts.spending import Amounts, Hold
from tokenworks.errors import UnknownCaller
from tokenworks.store.transaction import Row, Transaction

KEEP_LOST_S: Final = 7 * 86_400.0
"""How long a reservation that was booked as lost can still be settled for what it was."""

_COLUMNS: Final = (
    "request_id, instance, lost, at, tenant, user_name, key_id, model, backend, label, "
    "money, tokens, holds"
)
_holds_in: Final = msgspec.json.Decoder(tuple[Hold, ...]).decode
_holds_out: Final = msgspec.json.Encoder().encode


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for what. `backend` is where it will probably go, should it be lost."""

    request_id: str
    caller: Caller
    model: str = ""
    backend: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What is reserved for a request. The ledger knows it by `request_id`, which is another one
    than was asked for where that one is taken."""

    request_id: str
    caller: Caller
    amounts: Amounts
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of a settlement. `again`: it was settled before, and nothing changed."""

    row: LedgerRow
    again: bool = False


class _Open(msgspec.Struct, frozen=True):
    """A row of `reservations`, by its columns."""

    request_id: str
    instance: int
    lost: int
    at: float
    tenant: str
    user_name: str
    key_id: str
    model: str
    backend: str
    label: str
    money: int
    tokens: int
    holds: str

    @property
    def held(self) -> Sequence[Hold]:
        return _holds_in(self.holds)


def reserve(
    transaction: Transaction,
    request: Request,
    amounts: Amounts,
    *,
    instance: int,
    at: float,
    another: Callable[[str], str],
) -> Reservation:
    """Reserve with every budget of the caller's, or with none.

    `another` makes a new id from one that is taken: clients choose ids, and must neither get a
    second request for nothing nor block one. Raises BudgetError, and UnknownCaller for a key that
    was revoked, in whichever process.
    """
    caller = request.caller
    if caller.key_id and key_rows.is_revoked(transaction, caller.key_id):
        raise UnknownCaller(f"The key {caller.key_id} was revoked")
    request_id = request.request_id
    while _is_taken(transaction, request_id):
        request_id = another(request.request_id)
    states = spending.states_of(transaction, caller.holders, at)
    if refusal := spending.refusal_of(states, amounts, at):
        raise refusal
    holds = spending.reserve(transaction, states, amounts)
    transaction.run(
        f"INSERT INTO reservations ({_COLUMNS}) VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(request_id, instance, at, caller.tenant, caller.user, caller.key_id),
        *(request.model, request.backend, request.label, amounts.money, amounts.tokens),
        _holds_out(holds).decode(),
    )
    return Reservation(request_id=request_id, caller=caller, amounts=amounts, at=at)


def extend(
    transaction: Transaction, request_id: str, further: Amounts, *, backend: str, at: float
) -> bool:
    """Reserve more for a request that needs another backend. False if it is not open any more.

    Raises BudgetError; what was reserved before stays so.
    """
    found = _open(transaction, request_id)
    if found is None or found.lost:
        return False
    caller = Caller(found.tenant, found.user_name, found.key_id)
    # The periods are those in which the request began, whatever time it is.
    held = set(found.held)
    states = [
        state
        for state in spending.states_of(transaction, caller.holders, found.at)
        if state.hold in held
    ]
    if refusal := spending.refusal_of(states, further, at):
        raise refusal
    spending.reserve(transaction, states, further)
    unlimited = [hold for hold in found.held if hold not in {state.hold for state in states}]
    spending.shift(transaction, unlimited, money=(0, further.money), tokens=(0, further.tokens))
    transaction.run(
        "UPDATE reservations SET money = money + ?, tokens = tokens + ?, backend = ? "
        "WHERE request_id = ?",
        *(further.money, further.tokens, backend, request_id),
    )
    return True


def settle(transaction: Transaction, settlement: Settlement) -> Settled | None:
    """End a request. None if nothing was ever reserved for it."""
    found = _open(transaction, settlement.request_id)
    if found is None:
        row = ledger.find(transaction, settlement.request_id)
        return None if row is None else Settled(row=row, again=True)
    settlement = settlement.bounded()
    row = _row(found, settlement)
    entries = ledger.entries_of(found.tenant, settlement.costs)
    if found.lost:
        # Booked in full by another process that took this one for dead.
        spending.shift(
            transaction,
            found.held,
            money=(row.money - found.money, 0),
            tokens=(row.tokens - found.tokens, 0),
        )
        ledger.correct(transaction, row, entries)
    else:
        spending.shift(
            transaction,
            found.held,
            money=(row.money, -found.money),
            tokens=(row.tokens, -found.tokens),
        )
        ledger.write(transaction, row, entries)
    _forget(transaction, found.request_id)
    return Settled(row=row)


def release(transaction: Transaction, reservation: Reservation) -> None:
    """Give back what was reserved for a request that was never sent to anybody. It leaves no trace,
    unless it was booked as lost. What is not reserved any more is left alone."""
    request_id = reservation.request_id
    found = _open(transaction, request_id)
    if found is None or found.at != reservation.at:
        return  # another request has this id by now
    if found.lost:
        settle(transaction, Settlement(request_id=request_id, status="cancelled", attempts=0))
    else:
        spending.shift(transaction, found.held, money=(0, -found.money), tokens=(0, -found.tokens))
        _forget(transaction, request_id)


def instances(transaction: Transaction) -> list[int]:
    """Ids of all instances that have open reservations."""
    rows = transaction.rows("SELECT DISTINCT instance FROM reservations WHERE lost = 0")
    return [row[0] for row in rows]


def lose(transaction: Transaction, instance: int) -> list[LedgerRow]:
    """Book all that a dead instance has reserved as spent, and say so in the ledger."""
    rows = transaction.rows(
        f"SELECT {_COLUMNS} FROM reservations WHERE instance = ? AND lost = 0", instance
    )
    return [_lose(transaction, _Open(*row)) for row in rows]


def forget_lost(transaction: Transaction, at: float) -> None:
    """Who has not settled a lost request by now never will."""
    transaction.run("DELETE FROM reservations WHERE lost = 1 AND at < ?", at - KEEP_LOST_S)


def _lose(transaction: Transaction, found: _Open) -> LedgerRow:
    lost = Settlement(
        request_id=found.request_id,
        status="lost",
        costs=((found.backend, found.money),),
        backend=found.backend,
        route='{"lost":"its gateway died; what was reserved counts as spent"}',
    )
    row = msgspec.structs.replace(_row(found, lost), tokens=found.tokens)
    spending.shift(
        transaction,
        found.held,
        money=(found.money, -found.money),
        tokens=(found.tokens, -found.tokens),
    )
    ledger.write(transaction, row, ledger.entries_of(found.tenant, lost.costs))
    transaction.run("UPDATE reservations SET lost = 1 WHERE request_id = ?", found.request_id)
    return row


def _row(found: _Open, settlement: Settlement) -> LedgerRow:
    return LedgerRow(
        id=found.request_id,
        at=found.at,
        day=day_of(found.at),
        tenant=found.tenant,
        user_name=found.user_name,
        key_id=found.key_id,
        model=settlement.model or found.model,
        backend=settlement.backend or found.backend,
        tier=settlement.tier,
        label=settlement.label or found.label,
        status=settlement.status,
        prompt_tokens=settlement.prompt_tokens,
        cached_tokens=settlement.cached_tokens,
        completion_tokens=settlement.completion_tokens,
        reasoning_tokens=settlement.reasoning_tokens,
        tokens=settlement.tokens,
        money=settlement.money,
        reserved=found.money,
        reserved_tokens=found.tokens,
        energy_j=settlement.energy_j,
        first_token_ms=settlement.first_token_ms,
        gap_p50_ms=settlement.gap_p50_ms,
        gap_p99_ms=settlement.gap_p99_ms,
        attempts=settlement.attempts,
        route=settlement.route,
    )


def _is_taken(transaction: Transaction, request_id: str) -> bool:
    sql = (
        "SELECT 1 FROM reservations WHERE request_id = ? "
        "UNION ALL SELECT 1 FROM requests WHERE id = ?"
    )
    return transaction.row(sql, request_id, request_id) is not None


def _open(transaction: Transaction, request_id: str) -> _Open | None:
    row: Row | None = transaction.row(
        f"SELECT {_COLUMNS} FROM reservations WHERE request_id = ?", request_id
    )
    return _Open(*row) if row else None


def _forget(transaction: Transaction, request_id: str) -> None:
    transaction.run("DELETE FROM reservations WHERE request_id = ?", request_id)

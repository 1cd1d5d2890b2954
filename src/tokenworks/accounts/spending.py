"""What holders of budgets have spent and reserved: the rows, the check and its refusal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from tokenworks.accounts.holders import show_holder
from tokenworks.accounts.money import MOST, show_money
from tokenworks.accounts.periods import end_of, start_of
from tokenworks.errors import BudgetError
from tokenworks.store.dialects import StoreError
from tokenworks.store.transaction import Transaction

WHEN_OTHERS_END_S: Final = 2.0
"""When to come back if what is reserved for running requests is all that stands in the way."""

_NO_LIMIT: Final = 2**62

Hold = tuple[str, str, int]
"""Holder, period and the period's start: a row of `spending` in which something is reserved."""


class Amounts(msgspec.Struct, frozen=True, kw_only=True):
    """Money in micro-units, and tokens of prompt and answer together."""

    money: int = 0
    tokens: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.money <= MOST and 0 <= self.tokens <= MOST):
            raise ValueError(f"amounts are not between 0 and 2**53: {self}")

    @classmethod
    def at_most(cls, money: int, tokens: int) -> "Amounts":
        """What is beyond all amounts counts as the largest: no smaller budget covers that."""
        return cls(money=min(money, MOST), tokens=min(tokens, MOST))


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """A budget and what was used of it in the period from `starts` on; None: no limit."""

    holder: str
    period: str
    starts: int
    money: int | None
    tokens: int | None
    spent: int = 0
    reserved: int = 0
    spent_tokens: int = 0
    reserved_tokens: int = 0
    begun: bool = True  # whether the period has a row yet

    @property
    def hold(self) -> Hold:
        return self.holder, self.period, self.starts


def states_of(transaction: Transaction, holders: Sequence[str], at: float) -> list[BudgetState]:
    """The budgets of these holders, three at most, in the periods in which `at` lies."""
    day, month = start_of("day", at), start_of("month", at)
    named = (*holders, "", "", "")[:3]
    rows = transaction.rows(
        "SELECT b.holder, b.period, b.money, b.tokens, "
        "s.spent, s.reserved, s.spent_tokens, s.reserved_tokens "
        "FROM budgets b LEFT JOIN spending s ON s.holder = b.holder AND s.period = b.period "
        "AND s.starts = CASE b.period WHEN 'day' THEN ? WHEN 'month' THEN ? ELSE 0 END "
        "WHERE b.holder IN (?, ?, ?) ORDER BY b.holder, b.period",
        day,
        month,
        *named,
    )
    return [
        BudgetState(
            holder=holder,
            period=period,
            starts={"day": day, "month": month}.get(period, 0),
            money=money,
            tokens=tokens,
            spent=used[0] or 0,
            reserved=used[1] or 0,
            spent_tokens=used[2] or 0,
            reserved_tokens=used[3] or 0,
            begun=used[0] is not None,
        )
        for holder, period, money, tokens, *used in rows
    ]


def refusal_of(states: Iterable[BudgetState], wanted: Amounts, at: float) -> BudgetError | None:
    """Why these budgets do not cover what is wanted, if so; of several, the one that lasts longest.

    Pure. It says when to come back: at once when running requests are all that stands in the way,
    when the period turns, or never where no period would cover it.
    """
    refusals = [
        refusal
        for state in states
        for refusal in (_money_refusal(state, wanted, at), _tokens_refusal(state, wanted, at))
        if refusal is not None
    ]

    def lasts(refusal: BudgetError) -> float:
        return float("inf") if refusal.retry_after_s is None else refusal.retry_after_s

    return max(refusals, key=lasts, default=None)


def reserve(transaction: Transaction, states: Sequence[BudgetState], wanted: Amounts) -> list[Hold]:
    """Reserve in all of them. The states must be of this transaction.

    The condition is in the statement as well, so that it holds whatever the states said.
    """
    new = [(*state.hold, 0, 0, 0, 0) for state in states if not state.begun]
    if new:
        transaction.many("INSERT INTO spending VALUES (?, ?, ?, ?, ?, ?, ?)", new)
    money, tokens = wanted.money, wanted.tokens
    rows = [
        (
            *(money, tokens, *state.hold),
            *(money, _limit(state.money, money), tokens, _limit(state.tokens, tokens)),
        )
        for state in states
    ]
    if rows:
        changed = transaction.many(
            "UPDATE spending SET reserved = reserved + ?, reserved_tokens = reserved_tokens + ? "
            "WHERE holder = ? AND period = ? AND starts = ? "
            "AND spent + reserved + ? <= ? AND spent_tokens + reserved_tokens + ? <= ?",
            rows,
        )
        if changed != len(rows):
            raise StoreError("Budgets changed while they were checked: try again")
    return [state.hold for state in states]


def shift(
    transaction: Transaction,
    holds: Sequence[Hold],
    *,
    money: tuple[int, int],
    tokens: tuple[int, int],
) -> None:
    """Add to what was spent, and to what is reserved, in one step for each holder. No check."""
    if holds:
        transaction.many(
            "UPDATE spending SET spent = spent + ?, reserved = reserved + ?, "
            "spent_tokens = spent_tokens + ?, reserved_tokens = reserved_tokens + ? "
            "WHERE holder = ? AND period = ? AND starts = ?",
            [(*money, *tokens, *hold) for hold in holds],
        )


def _limit(limit: int | None, wanted: int) -> int:
    """What is free may run on a budget that is used up."""
    return _NO_LIMIT if limit is None or wanted == 0 else limit


def _money_refusal(state: BudgetState, wanted: Amounts, at: float) -> BudgetError | None:
    used = state.spent + state.reserved
    if used + wanted.money <= _limit(state.money, wanted.money) or state.money is None:
        return None
    left = max(0, state.money - used)
    return _refusal(
        state,
        f"this request may cost {show_money(wanted.money)}, and {show_money(left)} of "
        f"{show_money(state.money)} is left",
        fits_whole=wanted.money <= state.money,
        fits_later=state.spent + wanted.money <= state.money,
        at=at,
    )


def _tokens_refusal(state: BudgetState, wanted: Amounts, at: float) -> BudgetError | None:
    used = state.spent_tokens + state.reserved_tokens
    if used + wanted.tokens <= _limit(state.tokens, wanted.tokens) or state.tokens is None:
        return None
    left = max(0, state.tokens - used)
    return _refusal(
        state,
        f"this request may use {wanted.tokens:,} tokens, and {left:,} of {state.tokens:,} are left",
        fits_whole=wanted.tokens <= state.tokens,
        fits_later=state.spent_tokens + wanted.tokens <= state.tokens,
        at=at,
    )


def _refusal(
    state: BudgetState, why: str, *, fits_whole: bool, fits_later: bool, at: float
) -> BudgetError:
    ends = end_of(state.period, at)
    whole = {"day": " for today", "month": " for this month"}.get(state.period, "")
    retry_after_s = WHEN_OTHERS_END_S if fits_later else None if ends is None else ends - at
    hint = "requests that run have reserved the rest: try again in a moment" if fits_later else None
    if not fits_whole:
        retry_after_s, hint = None, "ask for fewer tokens (max_tokens), or a cheaper model"
    return BudgetError(
        f"{show_holder(state.holder)} has a budget{whole} that does not cover this: {why}",
        retry_after_s=retry_after_s,
        hint=hint,
    )

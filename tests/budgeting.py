"""What tests of budgets share: a caller, a wall clock that stands still, and short words."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

from tokenworks.accounts import ledger
from tokenworks.accounts.budget_rows import Budget
from tokenworks.accounts.budgets import Budgets
from tokenworks.accounts.holders import Caller
from tokenworks.accounts.ledger import LedgerRow, Settlement
from tokenworks.accounts.reservations import Request, Reservation
from tokenworks.accounts.spending import Amounts, BudgetState
from tokenworks.store.database import Database

T = TypeVar("T")
CALLER = Caller("acme", "ada", "k1")
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()


class Wall:
    """A wall clock that tests move."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def allow(
    budgets: Budgets,
    holder: str = "tenant:acme",
    period: str = "total",
    money: int | None = None,
    tokens: int | None = None,
) -> None:
    budget = Budget(holder=holder, period=period, money=money, tokens=tokens)
    run(budgets.set(budget, actor="test"))


def reserving(
    budgets: Budgets, name: str = "r", money: int = 0, tokens: int = 0, caller: Caller = CALLER
) -> Coroutine[Any, Any, Reservation]:
    request = Request(request_id=name, caller=caller, model="m", backend="cloud", label="internal")
    return budgets.reserve(request, Amounts(money=money, tokens=tokens))


def answered(name: str, cost: int = 0, prompt: int = 0, completion: int = 0) -> Settlement:
    return Settlement(
        request_id=name,
        status="answered",
        costs=(("cloud", cost),),
        prompt_tokens=prompt,
        completion_tokens=completion,
    )


def state(budgets: Budgets, holder: str = "tenant:acme") -> BudgetState:
    (found,) = (each for each in run(budgets.all()) if each.holder == holder)
    return found


def row_of(database: Database, name: str) -> LedgerRow | None:
    return database.read_now(lambda transaction: ledger.find(transaction, name))

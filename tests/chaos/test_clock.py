"""The wall clock jumps: nothing comes back to life, nothing is lost, no money is there twice."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tokenworks.accounts.budget_rows import Budget
from tokenworks.accounts.budgets import Budgets
from tokenworks.accounts.holders import Caller
from tokenworks.accounts.key_store import KeyStore
from tokenworks.accounts.keys import NewKey
from tokenworks.accounts.ledger import Settlement
from tokenworks.accounts.reservations import Request
from tokenworks.accounts.spending import Amounts
from tokenworks.errors import BudgetError, UnknownCaller
from tokenworks.store.database import Database
from tokenworks.store.instances import claim

NOON = 1_795_867_200.0  # 2026-11-28, in the middle of a day
DAY = 86_400.0


class Wall:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path / 'books.db'}") as database:
        yield database


@pytest.fixture
def keys(database: Database, wall: Wall) -> KeyStore:
    return KeyStore(database, b"s" * 32, wall=wall)


@pytest.fixture
def budgets(database: Database, wall: Wall) -> Iterator[Budgets]:
    instance = claim(database)
    yield Budgets(database, instance, wall=wall)
    instance.close()


def run(work: Any) -> Any:
    return asyncio.run(work)


@pytest.mark.parametrize("seconds", [1.0, 600.0, 30 * DAY])
def test_a_revoked_key_comes_back_by_no_clock_that_is_behind(
    keys: KeyStore, wall: Wall, seconds: float
) -> None:
    """A clock set right, or a second gateway whose clock is slower than the one that revoked."""
    issued = run(keys.create(NewKey(tenant="acme"), actor="t"))
    run(keys.revoke(issued.key.id, actor="t"))
    wall.now -= seconds

    with pytest.raises(UnknownCaller):
        keys.find(issued.text)


def test_a_revoked_key_reserves_nothing_by_a_clock_that_is_behind(
    keys: KeyStore, budgets: Budgets, wall: Wall
) -> None:
    issued = run(keys.create(NewKey(tenant="acme"), actor="t"))
    run(keys.revoke(issued.key.id, actor="t"))
    wall.now -= 600
    asked = Request(request_id="r", caller=issued.key.caller)

    with pytest.raises(UnknownCaller):
        run(budgets.reserve(asked, Amounts(money=1)))


@pytest.mark.parametrize("jump", [-40 * DAY, -DAY, -1.0, DAY, 40 * DAY])
def test_a_request_is_booked_once_and_where_it_began_whatever_the_clock_does(
    budgets: Budgets, database: Database, wall: Wall, jump: float
) -> None:
    for period in ("day", "month", "total"):
        run(budgets.set(Budget(holder="tenant:acme", period=period, money=100), actor="t"))
    caller = Caller("acme")

    async def race() -> None:
        reservation = await budgets.reserve(
            Request(request_id="r", caller=caller, backend="b"), Amounts(money=60)
        )
        wall.now += jump
        settlement = Settlement(request_id="r", status="answered", costs=(("b", 50),))
        await asyncio.gather(budgets.settle(settlement), budgets.settle(settlement))
        assert await budgets.recover() == []
        await budgets.release(reservation)

    run(race())
    rows = database.read_now(lambda t: t.rows("SELECT spent, reserved FROM spending"))
    ledger = database.read_now(lambda t: t.rows("SELECT at, money FROM requests"))

    assert rows == [(50, 0)] * 3
    assert ledger == [(NOON, 50)]


def test_a_total_budget_is_not_refilled_by_a_clock_that_jumps(budgets: Budgets, wall: Wall) -> None:
    run(budgets.set(Budget(holder="tenant:acme", period="total", money=100), actor="t"))
    caller, granted = Caller("acme"), 0
    for number, jump in enumerate((0.0, -DAY, 40 * DAY, -400 * DAY, 3650 * DAY)):
        wall.now = NOON + jump
        try:
            run(budgets.reserve(Request(request_id=f"r{number}", caller=caller), Amounts(money=40)))
            granted += 1
        except BudgetError:
            pass

    assert granted == 2


def test_a_clock_that_jumps_back_makes_no_period_s_money_twice(
    budgets: Budgets, wall: Wall
) -> None:
    """Each day has its own money; going to and fro between two days gives neither any more."""
    run(budgets.set(Budget(holder="tenant:acme", period="day", money=100), actor="t"))
    caller, granted = Caller("acme"), 0
    waits: list[float | None] = []
    for number in range(12):
        wall.now = NOON - DAY * (number % 2)
        try:
            run(budgets.reserve(Request(request_id=f"r{number}", caller=caller), Amounts(money=40)))
            granted += 1
        except BudgetError as refused:
            waits.append(refused.retry_after_s)

    assert granted == 4
    assert all(wait is None or 0 < wait <= DAY for wait in waits)
    assert len(waits) == 8

"""Settling: exactly once, whoever leaves, dies or asks twice. On both databases."""

import asyncio
from typing import Any

import pytest

from budgeting import Wall, allow, answered, reserving, row_of, run, state
from tokenworks.accounts.budgets import Budgets
from tokenworks.accounts.ledger import Settlement
from tokenworks.accounts.spending import Amounts
from tokenworks.errors import BudgetError, RequestError
from tokenworks.store.database import Database
from tokenworks.store.dialects import StoreError


def test_settling_twice_counts_once_and_says_so(budgets: Budgets, database: Database) -> None:
    allow(budgets, money=100)
    run(reserving(budgets, money=50))

    async def main() -> list[Any]:
        settlement = answered("r", 10)
        return await asyncio.gather(*(budgets.settle(settlement) for _ in range(5)))

    done = run(main())

    assert [each.again for each in done] == [False, True, True, True, True]
    assert {each.row.money for each in done} == {10}
    assert state(budgets).spent == 10
    assert run(budgets.settle(answered("never", 10))) is None


def test_what_goes_beyond_the_reservation_is_booked_and_shown(
    budgets: Budgets, database: Database
) -> None:
    allow(budgets, money=100)
    run(reserving(budgets, money=50))

    done = run(budgets.settle(answered("r", 130)))

    assert done is not None
    assert (done.row.money, done.row.reserved, done.row.excess) == (130, 50, 80)
    assert (state(budgets).spent, state(budgets).reserved) == (130, 0)


@pytest.mark.parametrize("number", [-5, 10**30])
def test_figures_that_no_backend_can_mean_do_not_break_the_books(
    budgets: Budgets, number: int
) -> None:
    allow(budgets, money=100)
    run(reserving(budgets, money=50))

    done = run(budgets.settle(answered("r", number, number, number)))

    assert done is not None
    assert done.row.money >= 0
    assert (state(budgets).spent, state(budgets).reserved) == (done.row.money, 0)


def test_a_request_is_charged_to_the_period_in_which_it_began(budgets: Budgets, wall: Wall) -> None:
    allow(budgets, period="day", money=100)
    run(reserving(budgets, money=90))
    wall.now += 86_400
    run(reserving(budgets, "r2", money=100))

    run(budgets.settle(answered("r", 80)))

    assert (state(budgets).spent, state(budgets).reserved) == (0, 100)
    wall.now -= 86_400
    assert (state(budgets).spent, state(budgets).reserved) == (80, 0)


def test_a_request_that_was_never_sent_leaves_nothing(budgets: Budgets, database: Database) -> None:
    allow(budgets, money=100, tokens=100)
    reservation = run(reserving(budgets, money=100, tokens=100))
    for _ in range(2):
        run(budgets.release(reservation))

    assert (state(budgets).reserved, state(budgets).reserved_tokens) == (0, 0)
    assert row_of(database, "r") is None
    again = run(reserving(budgets, money=100))
    assert again.request_id == "r"


def test_a_caller_that_leaves_while_it_waits_leaves_nothing_reserved(budgets: Budgets) -> None:
    allow(budgets, money=1000)

    async def main() -> None:
        for steps in range(8):
            task = asyncio.create_task(reserving(budgets, f"r{steps}", money=10))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await reserving(budgets, "last", money=1000)

    run(main())

    assert state(budgets).reserved == 1000


def test_a_settlement_takes_place_though_its_caller_leaves(
    budgets: Budgets, database: Database
) -> None:
    run(reserving(budgets, money=10))

    async def main() -> None:
        task = asyncio.create_task(budgets.settle(answered("r", 5)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await budgets.recover()

    run(main())

    row = row_of(database, "r")
    assert row is not None
    assert row.money == 5


def test_an_id_that_a_client_sends_twice_gets_it_no_request_for_nothing(
    budgets: Budgets, database: Database
) -> None:
    allow(budgets, money=100)
    first, second = run(reserving(budgets, money=10)), run(reserving(budgets, money=10))
    run(budgets.settle(answered(first.request_id, 10)))
    third = run(reserving(budgets, money=10))
    for reservation in (second, third):
        run(budgets.settle(answered(reservation.request_id, 10)))

    names = {first.request_id, second.request_id, third.request_id}
    assert len(names) == 3
    assert first.request_id == "r"
    assert all(name.startswith("r") for name in names)
    assert state(budgets).spent == 30


def test_a_request_that_needs_another_backend_reserves_more_or_keeps_what_it_has(
    budgets: Budgets, database: Database
) -> None:
    allow(budgets, money=100)
    reservation = run(reserving(budgets, money=40))

    more = run(budgets.extend(reservation, Amounts(money=50), backend="edge"))
    with pytest.raises(BudgetError):
        run(budgets.extend(more, Amounts(money=11), backend="other"))

    assert more.amounts == Amounts(money=90)
    assert state(budgets).reserved == 90
    done = run(
        budgets.settle(
            Settlement(request_id="r", status="answered", costs=(("cloud", 30), ("edge", 45)))
        )
    )
    assert done is not None
    assert (done.row.money, done.row.backend, done.row.excess) == (75, "edge", 0)
    assert (state(budgets).spent, state(budgets).reserved) == (75, 0)
    with pytest.raises(RequestError, match="has ended"):
        run(budgets.extend(more, Amounts(money=1), backend="x"))


def test_a_settlement_that_the_database_could_not_take_is_tried_again(
    budgets: Budgets, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(budgets, money=100)
    run(reserving(budgets, money=60))
    begin = type(database.dialect).begin
    monkeypatch.setattr(type(database.dialect), "begin", (*begin, "INSERT INTO nowhere VALUES (1)"))

    with pytest.raises(StoreError):
        run(budgets.settle(answered("r", 10)))
    with pytest.raises(StoreError):
        run(budgets.recover())
    monkeypatch.undo()
    run(budgets.recover())

    assert (state(budgets).spent, state(budgets).reserved) == (10, 0)

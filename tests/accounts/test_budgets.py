"""Budgets: who is refused, why, and when to come back. On both databases."""

import asyncio
from datetime import UTC, datetime

import pytest

from budgeting import Wall, allow, answered, reserving, run, state
from tokenworks.accounts import key_rows
from tokenworks.accounts.budgets import Budgets
from tokenworks.accounts.holders import Caller
from tokenworks.accounts.keys import Key
from tokenworks.accounts.reservations import Reservation
from tokenworks.accounts.spending import WHEN_OTHERS_END_S
from tokenworks.errors import BudgetError, RequestError, UnknownCaller
from tokenworks.store import audit
from tokenworks.store.database import Database
from tokenworks.store.instances import claim


def test_what_is_reserved_counts_until_it_is_settled_for_what_it_was(budgets: Budgets) -> None:
    allow(budgets, money=100, tokens=1000)
    run(reserving(budgets, money=60, tokens=600))
    with pytest.raises(BudgetError, match="'acme' has a budget that does not cover this"):
        run(reserving(budgets, "r2", money=41))
    with pytest.raises(BudgetError, match="500 tokens, and 400 of 1,000 are left"):
        run(reserving(budgets, "r2", tokens=500))

    run(budgets.settle(answered("r", 10, 20, 5)))

    found = state(budgets)
    assert (found.spent, found.reserved) == (10, 0)
    assert (found.spent_tokens, found.reserved_tokens) == (25, 0)
    run(reserving(budgets, "r2", money=90, tokens=975))


def test_a_hundred_racing_requests_get_what_the_budget_covers_and_no_more(
    budgets: Budgets,
) -> None:
    allow(budgets, money=1000)

    async def main() -> list[object]:
        racing = (reserving(budgets, str(number), money=30) for number in range(100))
        return await asyncio.gather(*racing, return_exceptions=True)

    outcomes = run(main())

    assert sum(isinstance(outcome, Reservation) for outcome in outcomes) == 33
    assert sum(isinstance(outcome, BudgetError) for outcome in outcomes) == 67
    assert state(budgets).reserved == 990


def test_two_gateways_that_race_for_one_budget_get_no_more_than_one(
    budgets: Budgets, database_url: str, wall: Wall
) -> None:
    allow(budgets, money=1000)
    allow(budgets, "user:acme/ada", money=900)
    with Database(database_url) as other:
        second = claim(other)
        both = (budgets, Budgets(other, second, wall=wall))

        async def main() -> list[object]:
            racing = (reserving(both[n % 2], str(n), money=30) for n in range(100))
            return await asyncio.gather(*racing, return_exceptions=True)

        outcomes = run(main())
        second.close()

    assert sum(isinstance(outcome, Reservation) for outcome in outcomes) == 30
    assert sum(isinstance(outcome, BudgetError) for outcome in outcomes) == 70
    assert state(budgets).reserved == 900


def test_all_three_holders_reserve_or_none_does(budgets: Budgets) -> None:
    holders = {"tenant:acme": 100, "user:acme/ada": 50, "key:k1": 20}
    for holder, money in holders.items():
        allow(budgets, holder, money=money)
    run(reserving(budgets, money=20))

    with pytest.raises(BudgetError, match="The key 'k1'"):
        run(reserving(budgets, "r2", money=1))
    with pytest.raises(BudgetError, match="The user 'ada'"):
        run(reserving(budgets, "r2", money=31, caller=Caller("acme", "ada")))
    run(reserving(budgets, "r2", money=30, caller=Caller("acme", "ada", "k2")))

    assert {holder: state(budgets, holder).reserved for holder in holders} == {
        "tenant:acme": 50,
        "user:acme/ada": 50,
        "key:k1": 20,
    }


def test_users_of_one_name_in_two_tenants_are_two(budgets: Budgets) -> None:
    allow(budgets, "user:acme/ada", money=1)

    run(reserving(budgets, money=5, caller=Caller("other", "ada")))

    assert state(budgets, "user:acme/ada").reserved == 0


@pytest.mark.parametrize(
    ("period", "turns", "hours"), [("day", (2026, 11, 29), 12), ("month", (2026, 12, 1), 60)]
)
def test_a_refusal_says_when_the_period_turns_and_then_it_does(
    budgets: Budgets, wall: Wall, period: str, turns: tuple[int, int, int], hours: int
) -> None:
    allow(budgets, period=period, money=100)
    run(reserving(budgets, money=80))
    run(budgets.settle(answered("r", 80)))

    with pytest.raises(BudgetError) as refusal:
        run(reserving(budgets, "r2", money=30))

    assert refusal.value.retry_after_s == hours * 3600
    wall.now += hours * 3600
    assert wall.now == datetime(*turns, tzinfo=UTC).timestamp()
    run(reserving(budgets, "r2", money=30))
    assert (state(budgets).spent, state(budgets).reserved) == (0, 30)


def test_a_refusal_for_what_runs_says_to_come_back_soon(budgets: Budgets) -> None:
    allow(budgets, money=100)
    run(reserving(budgets, money=80))

    with pytest.raises(BudgetError, match="reserved the rest") as refusal:
        run(reserving(budgets, "r2", money=30))

    assert refusal.value.retry_after_s == WHEN_OTHERS_END_S


@pytest.mark.parametrize(("period", "money"), [("day", 101), ("total", 101)])
def test_what_no_period_would_cover_is_not_told_to_come_back(
    budgets: Budgets, period: str, money: int
) -> None:
    allow(budgets, period=period, money=100)

    with pytest.raises(BudgetError, match="ask for fewer tokens") as refusal:
        run(reserving(budgets, money=money))

    assert refusal.value.retry_after_s is None


def test_a_total_budget_that_is_used_up_never_grows(budgets: Budgets) -> None:
    allow(budgets, money=100)
    run(reserving(budgets, money=100))
    run(budgets.settle(answered("r", 100)))

    with pytest.raises(BudgetError) as refusal:
        run(reserving(budgets, "r2", money=1))

    assert refusal.value.retry_after_s is None


def test_what_is_free_runs_on_a_budget_of_money_that_is_overspent(budgets: Budgets) -> None:
    allow(budgets, money=100)
    run(reserving(budgets, money=100))
    run(budgets.settle(answered("r", 150)))

    run(reserving(budgets, "free", money=0, tokens=10))


def test_a_key_revoked_by_another_process_reserves_nothing(
    budgets: Budgets, database: Database, wall: Wall
) -> None:
    """Whatever this process has in memory."""
    key = Key(id="k1", tenant="acme", created_at=0.0)
    database.write_now(lambda t: key_rows.insert(t, key, "0" * 64))
    run(reserving(budgets))
    database.write_now(lambda t: key_rows.revoke(t, "k1", wall.now))

    with pytest.raises(UnknownCaller, match="revoked"):
        run(reserving(budgets, "r2"))


def test_a_budget_that_is_set_anew_keeps_what_was_used_of_it(budgets: Budgets) -> None:
    allow(budgets, money=100)
    run(reserving(budgets, money=60))
    assert run(budgets.remove("tenant:acme", "total", actor="test"))
    assert not run(budgets.remove("tenant:acme", "total", actor="test"))
    run(reserving(budgets, "r2", money=1000))

    allow(budgets, money=70)
    with pytest.raises(BudgetError):
        run(reserving(budgets, "r3", money=11))
    run(budgets.settle(answered("r", 60)))
    run(budgets.settle(answered("r2", 1000)))

    assert (state(budgets).spent, state(budgets).reserved) == (60, 0)


def test_changes_of_budgets_are_audited(budgets: Budgets, database: Database) -> None:
    allow(budgets, money=100)
    run(budgets.remove("tenant:acme", "total", actor="key:a"))

    rows = database.read_now(audit.read)

    assert [(row.actor, row.action, row.subject) for row in rows] == [
        ("test", "budget.set", "tenant:acme"),
        ("key:a", "budget.remove", "tenant:acme"),
    ]
    assert '"money":100' in rows[0].details


@pytest.mark.parametrize(
    ("holder", "period", "money"),
    [
        ("acme", "day", 1),
        ("tenant:", "day", 1),
        ("user:ada", "day", 1),
        ("tenant:a/b", "day", 1),
        ("tenant:acme", "week", 1),
        ("tenant:acme", "day", -1),
        ("tenant:acme", "day", 2**60),
    ],
)
def test_a_budget_that_cannot_be_is_refused(
    budgets: Budgets, holder: str, period: str, money: int
) -> None:
    with pytest.raises(RequestError):
        allow(budgets, holder, period, money)

    assert run(budgets.all()) == []

"""Budgets against a model of them: whatever happens in whatever order.

Two processes, one of which may die at any moment, three callers with shared holders, two periods.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tokenworks.accounts import budget_rows, reservations
from tokenworks.accounts.budget_rows import Budget
from tokenworks.accounts.holders import Caller
from tokenworks.accounts.ledger import Settlement
from tokenworks.accounts.periods import start_of
from tokenworks.accounts.reservations import Request, Reservation
from tokenworks.accounts.spending import Amounts
from tokenworks.errors import BudgetError
from tokenworks.store.database import Database

CALLERS = (Caller("t", "u", "a"), Caller("t", "u", "b"), Caller("t", "v"))
HOLDERS = ("tenant:t", "user:t/u", "user:t/v", "key:a", "key:b")
amounts = st.integers(0, 60)


@dataclass
class Open:
    """A request on its way, as the model knows it."""

    reservation: Reservation
    instance: int
    money: int
    tokens: int
    rows: list[tuple[str, str, int]]
    lost: bool = False


@dataclass
class Used:
    spent: int = 0
    reserved: int = 0
    spent_tokens: int = 0
    reserved_tokens: int = 0


@dataclass
class Model:
    limits: dict[tuple[str, str], tuple[int | None, int | None]] = field(default_factory=dict)
    used: dict[tuple[str, str, int], Used] = field(default_factory=dict)
    open: dict[str, Open] = field(default_factory=dict)
    ended: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def rows(self, caller: Caller, at: float) -> list[tuple[str, str, int]]:
        return [
            (holder, period, start_of(period, at))
            for holder, period in self.limits
            if holder in caller.holders
        ]

    def covers(self, rows: list[tuple[str, str, int]], money: int, tokens: int) -> bool:
        for row in rows:
            most, most_tokens = self.limits[row[:2]]
            used = self.used.get(row, Used())
            if money and most is not None and used.spent + used.reserved + money > most:
                return False
            both = used.spent_tokens + used.reserved_tokens + tokens
            if tokens and most_tokens is not None and both > most_tokens:
                return False
        return True


class Budgeting(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(f"sqlite:///{Path(self.folder.name) / 'accounts.db'}")
        self.model = Model()
        self.now = 1_800_000_000.0
        self.count = 0

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()

    @rule(
        holder=st.sampled_from(HOLDERS),
        period=st.sampled_from(["day", "total"]),
        money=st.none() | st.integers(0, 150),
        tokens=st.none() | st.integers(0, 150),
    )
    def set_budget(self, holder: str, period: str, money: int | None, tokens: int | None) -> None:
        budget = Budget(holder=holder, period=period, money=money, tokens=tokens)
        self.database.write_now(lambda t: budget_rows.put(t, budget))
        self.model.limits[holder, period] = (money, tokens)

    @rule(holder=st.sampled_from(HOLDERS), period=st.sampled_from(["day", "total"]))
    def remove_budget(self, holder: str, period: str) -> None:
        there = self.database.write_now(lambda t: budget_rows.remove(t, holder, period))

        assert there == (self.model.limits.pop((holder, period), None) is not None)

    @rule(days=st.integers(0, 1))
    def time_passes(self, days: int) -> None:
        self.now += 60 + days * 86_400

    @rule(
        caller=st.sampled_from(CALLERS), instance=st.integers(1, 2), money=amounts, tokens=amounts
    )
    def reserve(self, caller: Caller, instance: int, money: int, tokens: int) -> None:
        self.count += 1
        rows = self.model.rows(caller, self.now)
        request = Request(request_id=f"r{self.count}", caller=caller, backend="b")
        try:
            reservation = self.database.write_now(
                lambda t: reservations.reserve(
                    t,
                    request,
                    Amounts(money=money, tokens=tokens),
                    instance=instance,
                    at=self.now,
                    another=lambda name: f"{name}!",
                )
            )
        except BudgetError:
            assert not self.model.covers(rows, money, tokens)
            return
        assert self.model.covers(rows, money, tokens)
        for row in rows:
            used = self.model.used.setdefault(row, Used())
            used.reserved += money
            used.reserved_tokens += tokens
        self.model.open[reservation.request_id] = Open(reservation, instance, money, tokens, rows)

    @precondition(lambda self: any(not each.lost for each in self.model.open.values()))
    @rule(data=st.data(), money=amounts, tokens=amounts)
    def extend(self, data: st.DataObject, money: int, tokens: int) -> None:
        names = [name for name, each in self.model.open.items() if not each.lost]
        name = data.draw(st.sampled_from(names))
        found = self.model.open[name]
        limited = [row for row in found.rows if row[:2] in self.model.limits]
        try:
            done = self.database.write_now(
                lambda t: reservations.extend(
                    t, name, Amounts(money=money, tokens=tokens), backend="c", at=self.now
                )
            )
        except BudgetError:
            assert not self.model.covers(limited, money, tokens)
            return
        assert done
        assert self.model.covers(limited, money, tokens)
        for row in found.rows:
            self.model.used[row].reserved += money
            self.model.used[row].reserved_tokens += tokens
        found.money += money
        found.tokens += tokens

    @precondition(lambda self: self.model.open or self.model.ended)
    @rule(data=st.data(), cost=st.integers(0, 80), prompt=amounts, times=st.integers(1, 2))
    def settle(self, data: st.DataObject, cost: int, prompt: int, times: int) -> None:
        name = data.draw(st.sampled_from([*self.model.open, *self.model.ended]))
        settlement = Settlement(
            request_id=name, status="answered", costs=(("b", cost),), prompt_tokens=prompt
        )
        for _ in range(times):
            done = self.database.write_now(lambda t: reservations.settle(t, settlement))
            assert done is not None
            found = self.model.open.pop(name, None)
            assert done.again == (found is None)
            if found is None:
                assert (done.row.status, done.row.money, done.row.tokens) == self.model.ended[name]
                continue
            for row in found.rows:
                used = self.model.used[row]
                if found.lost:
                    used.spent -= found.money
                    used.spent_tokens -= found.tokens
                else:
                    used.reserved -= found.money
                    used.reserved_tokens -= found.tokens
                used.spent += cost
                used.spent_tokens += prompt
            self.model.ended[name] = ("answered", cost, prompt)

    @precondition(lambda self: any(not each.lost for each in self.model.open.values()))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        names = [name for name, each in self.model.open.items() if not each.lost]
        name = data.draw(st.sampled_from(names))
        found = self.model.open.pop(name)
        for _ in range(2):
            self.database.write_now(lambda t: reservations.release(t, found.reservation))
        for row in found.rows:
            self.model.used[row].reserved -= found.money
            self.model.used[row].reserved_tokens -= found.tokens

    @rule(instance=st.integers(1, 2))
    def die(self, instance: int) -> None:
        lost = self.database.write_now(lambda t: reservations.lose(t, instance))

        expected = {
            name: each
            for name, each in self.model.open.items()
            if each.instance == instance and not each.lost
        }
        assert {row.id: (row.money, row.tokens) for row in lost} == {
            name: (each.money, each.tokens) for name, each in expected.items()
        }
        for each in expected.values():
            each.lost = True
            for row in each.rows:
                used = self.model.used[row]
                used.reserved -= each.money
                used.reserved_tokens -= each.tokens
                used.spent += each.money
                used.spent_tokens += each.tokens

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        if not hasattr(self, "database"):
            return
        rows = self.database.read_now(lambda t: t.rows("SELECT * FROM spending"))

        found = {row[:3]: Used(*row[3:]) for row in rows}
        assert found == self.model.used
        assert all(used.reserved >= 0 and used.reserved_tokens >= 0 for used in found.values())

    @invariant()
    def the_ledger_has_each_ended_request_once_and_adds_up_to_zero(self) -> None:
        if not hasattr(self, "database"):
            return
        rows = self.database.read_now(
            lambda t: t.rows("SELECT id, status, money, tokens FROM requests ORDER BY id")
        )
        sums = self.database.read_now(
            lambda t: t.rows("SELECT request_id, account, SUM(money) FROM entries GROUP BY 1, 2")
        )
        lost = {
            name: ("lost", each.money, each.tokens)
            for name, each in self.model.open.items()
            if each.lost
        }

        assert {row[0]: row[1:] for row in rows} == {**self.model.ended, **lost}
        by_account = {(name, account): total for name, account, total in sums}
        for name, _, money, _ in rows:
            mine = {acc: total for (req, acc), total in by_account.items() if req == name and total}
            assert sum(mine.values()) == 0
            assert mine.get("tenant:t", 0) == money


Budgeting.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestBudgeting = Budgeting.TestCase

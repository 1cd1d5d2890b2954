"""Requests whose gateway died: booked in full, told, and corrected if it had not."""

import os
import subprocess
import sys
from pathlib import Path

from budgeting import Wall, allow, answered, reserving, row_of, run, state
from tokenworks.accounts.budgets import Budgets
from tokenworks.store.database import Database
from tokenworks.store.instances import claim
from tokenworks.store.transaction import Transaction


class Gone:
    """An instance for which all others are dead."""

    id = 5

    def is_gone(self, transaction: Transaction, other: int) -> bool:
        return other != self.id

    def close(self) -> None: ...


def test_what_a_dead_process_had_reserved_counts_as_spent_and_is_told_as_lost(
    budgets: Budgets, database: Database, wall: Wall
) -> None:
    allow(budgets, money=100, tokens=1000)
    run(reserving(budgets, money=60, tokens=500))
    another = Budgets(database, Gone(), wall=wall)

    (lost,) = run(another.recover())

    assert (lost.id, lost.status, lost.money, lost.tokens) == ("r", "lost", 60, 500)
    assert (lost.tenant, lost.model, lost.backend, lost.label) == ("acme", "m", "cloud", "internal")
    found = state(budgets)
    assert (found.spent, found.reserved) == (60, 0)
    assert (found.spent_tokens, found.reserved_tokens) == (500, 0)
    assert run(another.recover()) == []


RESERVE = """
import asyncio, sys
from budgeting import reserving
from tokenworks.accounts.budgets import Budgets
from tokenworks.store.database import Database
from tokenworks.store.instances import claim

async def main(budgets):
    for number in range(5):
        await reserving(budgets, f"r{number}", money=10)
    print("reserved", flush=True)
    sys.stdin.read()

database = Database(sys.argv[1])
asyncio.run(main(Budgets(database, claim(database))))
"""


def test_requests_of_a_process_that_was_killed_are_found_by_the_next(
    budgets: Budgets, database_url: str
) -> None:
    allow(budgets, money=100)
    command = [sys.executable, "-c", RESERVE, database_url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    tests = str(Path(__file__).parents[1])
    search = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": search}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reserved\n"
        assert run(budgets.recover()) == []
        process.kill()
        process.wait()

        # A server notices the end of a session a moment after the process is gone.
        found = next(filter(None, (run(budgets.recover()) for _ in range(5000))), [])

    assert sorted(row.id for row in found) == [f"r{number}" for number in range(5)]
    assert (state(budgets).spent, state(budgets).reserved) == (50, 0)


def test_what_a_live_process_has_reserved_is_left_to_it(
    budgets: Budgets, database_url: str, wall: Wall
) -> None:
    run(reserving(budgets, money=60))
    with Database(database_url) as own:
        other = claim(own)

        assert run(Budgets(own, other, wall=wall).recover()) == []
        other.close()

    assert run(budgets.settle(answered("r", 1))) is not None


def test_a_process_taken_for_dead_settles_for_what_it_was(
    budgets: Budgets, database: Database, wall: Wall
) -> None:
    allow(budgets, money=100, tokens=1000)
    run(reserving(budgets, money=60, tokens=500))
    run(Budgets(database, Gone(), wall=wall).recover())

    done = run(budgets.settle(answered("r", 10, 20, 5)))

    assert done is not None
    assert not done.again
    assert (done.row.status, done.row.money) == ("answered", 10)
    assert (state(budgets).spent, state(budgets).spent_tokens) == (10, 25)
    entries = database.read_now(
        lambda t: t.rows("SELECT account, money FROM entries ORDER BY number")
    )
    assert entries == [
        ("backend:cloud", -60),
        ("tenant:acme", 60),
        ("backend:cloud", 60),
        ("tenant:acme", -60),
        ("backend:cloud", -10),
        ("tenant:acme", 10),
    ]
    again = run(budgets.settle(answered("r", 10, 20, 5)))
    assert again is not None
    assert again.again


def test_a_request_never_sent_that_was_taken_for_lost_costs_nothing(
    budgets: Budgets, database: Database, wall: Wall
) -> None:
    allow(budgets, money=100)
    reservation = run(reserving(budgets, money=60))
    run(Budgets(database, Gone(), wall=wall).recover())

    run(budgets.release(reservation))

    assert (state(budgets).spent, state(budgets).reserved) == (0, 0)
    row = row_of(database, "r")
    assert row is not None
    assert (row.status, row.money) == ("cancelled", 0)

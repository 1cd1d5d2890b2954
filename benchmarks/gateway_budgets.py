"""Budgets under fire: gateways race on one database, are killed at random and started again.

Each round has a budget of its own for a tenant, a user and a key, which covers some of what is
asked. A backend keeps its own record of what it was paid for, written before it replies; nothing
of ours touches that record. Afterwards the two are compared.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from budget_records import differences, read_books

from tokenworks.accounts.budget_rows import Budget
from tokenworks.accounts.budgets import Budgets
from tokenworks.accounts.holders import Caller
from tokenworks.accounts.ledger import Settlement
from tokenworks.accounts.reservations import Request
from tokenworks.accounts.spending import Amounts
from tokenworks.errors import BudgetError
from tokenworks.store.database import Database
from tokenworks.store.instances import claim

GATEWAYS: Final = 3
MOST_COST: Final = 1000
"""Micro-units that a request may cost, and reserves."""

COVERED: Final = 0.35
"""Share of the racing requests that a budget covers if each costs the most."""

KILLED_WITHIN_S: Final = 0.05
"""About as long as a round's requests take."""


@dataclass
class Counts:
    rounds: int = 0
    killed: int = 0
    paid: int = 0
    answered: int = 0
    refused: int = 0
    lost: int = 0
    violations: list[str] = field(default_factory=list)


def budget_overruns(rounds: int = 200, racing: int = 100) -> dict[str, object]:
    """Run as a process of its own, which may fork. `budget_overruns` counts what went wrong: a
    budget exceeded, or a request that was paid for and is missing, doubled or wrong in the ledger.
    """
    command = [sys.executable, __file__, "--rounds", str(rounds), "--racing", str(racing)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, object] = json.loads(run.stdout.splitlines()[-1])
    return found


class Round:
    """One budget, and those who race for it."""

    def __init__(self, folder: Path, number: int, racing: int) -> None:
        self.number = number
        self.racing = racing
        self.limit = int(racing * COVERED * MOST_COST)
        self.url = f"sqlite:///{folder / 'accounts.db'}"
        self.database = folder / "accounts.db"
        self.paid = folder / f"paid-{number}"
        self.answered = folder / f"answered-{number}"
        self.refused = folder / f"refused-{number}"
        self.caller = Caller(f"tenant{number}", "user", f"key{number}")

    async def set_budgets(self, budgets: Budgets) -> None:
        for holder, period in zip(self.caller.holders, ("month", "day", "total"), strict=True):
            await budgets.set(
                Budget(holder=holder, period=period, money=self.limit, tokens=None), actor="bench"
            )

    def gateway(self, part: str, ready: int, go: int, requests: int) -> None:
        """The life of one gateway process."""
        with Database(self.url) as database:
            instance = claim(database)
            budgets = Budgets(database, instance)
            asyncio.run(self._serve(budgets, part, ready, go, requests))
            instance.close()

    async def _serve(self, budgets: Budgets, part: str, ready: int, go: int, requests: int) -> None:
        await budgets.recover()
        os.write(ready, b".")
        os.read(go, 1)  # ends for all at once
        files = [append_to(path) for path in (self.paid, self.answered, self.refused)]
        dice = random.Random(f"{self.number} {part}")
        names = (f"{self.number}-{part}-{index}" for index in range(requests))
        work = [self._request(budgets, name, files, dice) for name in names]
        await asyncio.gather(*work, self._look(budgets, dice))

    async def _look(self, budgets: Budgets, dice: random.Random) -> None:
        """Look for others that died, while they and this one are at work."""
        await asyncio.sleep(dice.random() * 0.03)
        await budgets.recover()

    async def _request(
        self, budgets: Budgets, name: str, files: list[int], dice: random.Random
    ) -> None:
        paid, answered, refused = files
        cost, think_s = dice.randint(1, MOST_COST), dice.random() * 0.005
        await asyncio.sleep(dice.random() * 0.03)
        try:
            reservation = await budgets.reserve(
                Request(request_id=name, caller=self.caller, model="m", backend="cloud"),
                Amounts(money=MOST_COST, tokens=100),
            )
        except BudgetError:
            os.write(refused, f"{name}\n".encode())
            return
        # From here on the backend has been paid, whoever dies.
        os.write(paid, f"{reservation.request_id} {cost}\n".encode())
        await asyncio.sleep(think_s)
        os.write(answered, f"{reservation.request_id}\n".encode())
        await budgets.settle(
            Settlement(
                request_id=reservation.request_id,
                status="answered",
                costs=(("cloud", cost),),
                prompt_tokens=10,
                completion_tokens=5,
            )
        )

    def race(self, dice: random.Random) -> int:
        """Start the gateways, kill some of them at random, and wait. How many were killed."""
        ready, tell_ready = os.pipe()
        wait_go, go = os.pipe()
        share = self.racing // GATEWAYS + 1
        processes = [
            forked(partial(self.gateway, f"a{index}", tell_ready, wait_go, share), close=(go,))
            for index in range(GATEWAYS)
        ]
        for _ in processes:
            os.read(ready, 1)
        os.close(go)
        victims = dice.sample(processes, dice.randint(1, GATEWAYS))
        begun = time.monotonic()
        for at, victim in sorted((dice.random() * KILLED_WITHIN_S, each) for each in victims):
            time.sleep(max(0.0, begun + at - time.monotonic()))
            os.kill(victim, signal.SIGKILL)
        killed = 0
        for process in processes:
            status = os.waitpid(process, 0)[1]
            if not os.WIFSIGNALED(status) and status:
                raise RuntimeError(f"a gateway ended with {status}")
            killed += os.WIFSIGNALED(status)
        for descriptor in (ready, tell_ready, wait_go):
            os.close(descriptor)
        return killed

    def start_again(self, part: str, killed_after_s: float | None = None) -> None:
        """A gateway that finds what the others left, and serves some more, unless it is killed."""
        ready, tell_ready = os.pipe()
        wait_go, go = os.pipe()
        work = partial(self.gateway, part, tell_ready, wait_go, self.racing // 5)
        process = forked(work, close=(go,))
        for descriptor in (go, wait_go, tell_ready):
            os.close(descriptor)
        if killed_after_s is not None:
            time.sleep(killed_after_s)
            os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
        os.close(ready)
        if status and not os.WIFSIGNALED(status):
            raise RuntimeError(f"the gateway that was started again ended with {status}")

    def check(self, counts: Counts) -> None:
        """Compare the backend's record with the ledger."""
        paid = {name: int(cost) for name, cost in map(str.split, read(self.paid))}
        books = read_books(self.database, self.caller)
        wrong = differences(paid, set(read(self.answered)), books, self.limit)
        counts.violations += [f"round {self.number}: {text}" for text in wrong]
        counts.paid += len(paid)
        counts.answered += len(read(self.answered))
        counts.refused += len(read(self.refused))
        counts.lost += sum(status == "lost" for status, _ in books.requests.values())


def forked(work: Callable[[], None], close: tuple[int, ...]) -> int:
    """Run `work` in a process of its own, without what this one would have to import anew."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        for descriptor in close:
            os.close(descriptor)
        work()
        code = 0
    except BaseException as error:
        print(f"gateway: {error!r}", file=sys.stderr)
    finally:
        os._exit(code)


def append_to(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def read(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def measure(rounds: int, racing: int) -> Counts:
    counts = Counts()
    dice = random.Random(rounds)
    with tempfile.TemporaryDirectory(prefix="tokenworks-budgets-") as name:
        folder = Path(name)
        all_rounds = [Round(folder, number, racing) for number in range(rounds)]
        prepare(all_rounds)
        for each in all_rounds:
            counts.killed += each.race(dice)
            each.start_again("b", killed_after_s=dice.random() * KILLED_WITHIN_S)
            each.start_again("c")
            each.check(counts)
            counts.rounds += 1
            if counts.rounds % 10 == 0:
                print(
                    f"{counts.rounds} rounds, {counts.killed} killed, {counts.paid} paid, "
                    f"{counts.lost} lost, {counts.refused} refused: "
                    f"{len(counts.violations)} wrong",
                    file=sys.stderr,
                    flush=True,
                )
    return counts


def prepare(all_rounds: list[Round]) -> None:
    """Set all budgets, in a process that ends: this one has to stay without threads to fork."""

    async def set_all(budgets: Budgets) -> None:
        for each in all_rounds:
            await each.set_budgets(budgets)

    def work() -> None:
        with Database(all_rounds[0].url) as database:
            instance = claim(database)
            asyncio.run(set_all(Budgets(database, instance)))
            instance.close()

    if os.waitpid(forked(work, close=()), 0)[1]:
        raise RuntimeError("the budgets could not be set")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--racing", type=int, default=100)
    options = parser.parse_args()
    logging.disable()  # requests are lost in every round
    begun = time.monotonic()
    counts = measure(options.rounds, options.racing)
    for violation in counts.violations[:20]:
        print(violation, file=sys.stderr)
    record = {
        "budget_overruns": len(counts.violations),
        "rounds": counts.rounds,
        "gateways": GATEWAYS,
        "racing": options.racing,
        "killed": counts.killed,
        "paid": counts.paid,
        "answered": counts.answered,
        "refused": counts.refused,
        "lost": counts.lost,
        "seconds": round(time.monotonic() - begun, 1),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()

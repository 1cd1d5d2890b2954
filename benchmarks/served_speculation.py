"""Whether guessing ever costs: our server with speculation against itself without, in turn, over
all workloads, with one user and with many."""

import statistics
from collections.abc import Callable
from itertools import count

from harness import in_turn, note
from http_load import Served
from rich.table import Table
from servers import running
from serving_parts import Findings, Setup
from throughput import serve
from workloads import ALL, CLIENTS, Workload

Speed = Callable[[], float]

FIRST_ROUND = 20
MOST_ROUNDS = 5
LOADS = {1: 0.2, CLIENTS: 0.5}
"""Users at once, and the share of a round's conversations that they have."""


def measure(setup: Setup, found: Findings) -> None:
    table = Table(
        *("workload", "users", "guessing", "not guessing", "ratio: median (min to max)"),
        title="output tokens/s with speculation and without",
    )
    ratios, record = [], {}
    with running(setup.ours) as guessing, running(setup.ours_without_speculation) as plain:
        for workload in ALL:
            for users, share in LOADS.items():
                sides = (
                    _rounds(setup, served, workload, users, share) for served in (guessing, plain)
                )
                pairs = in_turn(min(setup.rounds, MOST_ROUNDS), *sides)
                record[f"{workload.key}, {users}"] = pairs.record()
                ratio = statistics.median(pairs.ratios)
                ratios.append(ratio)
                spread = f"{ratio:.2f} ({min(pairs.ratios):.2f} to {max(pairs.ratios):.2f})"
                speeds = [f"{statistics.median(side):.0f}" for side in (pairs.ours, pairs.theirs)]
                table.add_row(workload.key, str(users), *speeds, spread)
    found.keys["speculation_worst_ratio"] = round(min(ratios), 3)
    found.keys["speculation_geomean_ratio"] = round(statistics.geometric_mean(ratios), 3)
    found.details["speculation"] = record
    found.tables.append(table)
    note(f"speculation on ÷ off: {min(ratios):.3f} at worst")


def _rounds(setup: Setup, served: Served, workload: Workload, users: int, share: float) -> Speed:
    """Tokens a second of the next round, each with texts of its own."""
    numbers = count(FIRST_ROUND)

    def next_round() -> float:
        return serve(
            setup, served, workload, next(numbers), share=share, clients=users
        ).tokens_per_s

    return next_round

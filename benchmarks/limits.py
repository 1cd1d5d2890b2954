"""How near to the machine's limits a forward is, and what the engine adds to it."""

from dataclasses import dataclass
from statistics import median

import numpy as np
from engine_runs import Ours
from harness import summary, wait_until_idle
from parts import Findings, Setup
from rich.table import Table

from tokenworks.cli.measurements import last_level_bytes
from tokenworks.fleet.discover.machine import discover
from tokenworks.fleet.discover.measure import buffer_size, read_times

ROWS = (1, 2, 4, 8, 16, 64, 512)
CONTEXT = 100
"""Tokens before the one whose step is timed, about."""

SHORT, READ_S = 3, 0.15
"""Rounds in place of one, and for how long each reads: virtual machines change within seconds."""


@dataclass(frozen=True)
class Round:
    """What one moment allows and what it took then: bytes a second, and seconds; medians, but for
    `best`, the fastest read of any buffer."""

    memory: float
    cached: float
    best: float
    step: float
    step_forward: float
    one_row: float
    four_rows: float

    @property
    def fastest(self) -> float:
        return max(self.memory, self.cached)


def measure(setup: Setup, found: Findings) -> None:
    """Limits and what is divided by them in turn: a machine's clock and its neighbours drift."""
    ours, suffix = setup.ours, setup.suffix
    rounds = [one_round(ours) for _ in range(SHORT * setup.rounds)]
    wait_until_idle()
    forwards = {rows: ours.forward_s(rows) for rows in ROWS}
    read = ours.read_bytes(CONTEXT)
    fractions = [read / r.fastest / r.step for r in rounds]
    verify = [r.four_rows / r.one_row for r in rounds]
    found.keys |= {
        f"decode_roofline_fraction{suffix}": round(median(fractions), 3),
        f"verify4_cost{suffix}": round(median(verify), 3),
    }
    if not suffix:
        overhead = median((r.step - r.step_forward) / r.step for r in rounds)
        found.keys |= {
            "python_overhead_fraction": round(overhead, 4),
            "read_gb_per_s": round(median(r.fastest for r in rounds) / 1e9, 1),
        }
    found.details[f"limits{suffix}"] = {
        "read_gb_per_s": {
            "beyond the caches": summary([r.memory / 1e9 for r in rounds]),
            "as many bytes as the weights": summary([r.cached / 1e9 for r in rounds]),
        },
        "roofline_fraction": summary(fractions),
        "roofline_fraction_of_best_read": summary([read / r.best / r.step for r in rounds]),
        "verify4_cost": summary(verify),
        "read_bytes_per_token": read,
        "weight_bytes": ours.weight_bytes,
        "decode_step_s": summary([r.step for r in rounds]),
        "decode_forward_s": summary([r.step_forward for r in rounds]),
        "forward_s": {str(rows): seconds for rows, seconds in forwards.items()},
    }
    table = Table(f"rows of a forward, {setup.path.stem}", "ms", "against one row", "rows/s")
    for rows, seconds in forwards.items():
        times = seconds / forwards[1]
        table.add_row(str(rows), f"{seconds * 1e3:.2f}", f"{times:.2f}", f"{rows / seconds:.0f}")
    found.tables.append(table)


def one_round(ours: Ours) -> Round:
    wait_until_idle()
    memory, cached = read_rates(ours.weight_bytes)
    best = max(*memory, *cached)
    rows = ours.forward_s(1), ours.forward_s(4)
    return Round(median(memory), median(cached), best, *ours.decode_step_s(), *rows)


def read_rates(weight_bytes: int) -> tuple[list[float], list[float]]:
    """Bytes a second of rounds over a buffer beyond the caches, and over one as large as the
    weights: where they fit a cache, reading memory is no limit, and the honest one is the faster
    of the two."""
    machine = discover()
    threads = machine.processors.usable_cores
    beyond = buffer_size(last_level_bytes(machine), machine.memory.usable)

    def rates(size: int) -> list[float]:
        parts = np.array_split(np.ones(size, np.int8), threads)
        return [size / seconds for seconds in read_times(parts, READ_S)]

    return rates(beyond), rates(weight_bytes)

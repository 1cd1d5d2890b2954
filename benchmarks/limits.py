"""How near to the machine's limits a forward is, and what the engine adds to it."""

from dataclasses import dataclass
from statistics import median

from engine_runs import Ours
from harness import summary, wait_until_idle
from parts import Findings, Setup
from rich.table import Table

from tokenworks.cli.measurements import last_level_bytes
from tokenworks.fleet.discover.machine import discover
from tokenworks.fleet.discover.measure import Limits, measure_limits

ROWS = (1, 2, 4, 8, 16, 64, 512)
CONTEXT = 100
"""Tokens before the one whose step is timed, about."""


SHORT = 3
"""Rounds in place of one: short ones, since what a virtual machine reads changes within seconds."""


@dataclass(frozen=True)
class Round:
    """What one moment allows and what it took then: bytes a second, and seconds."""

    memory: float
    cached: float
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
    step, forward = ours.decode_step_s()
    rates = memory.read_all_threads, cached.read_all_threads
    return Round(*rates, step, forward, ours.forward_s(1), ours.forward_s(4))


def read_rates(weight_bytes: int) -> tuple[Limits, Limits]:
    """Of a buffer beyond the caches, and of one as large as the weights: where they fit a cache,
    reading memory is no limit, and the honest one is the faster of the two."""
    machine = discover()
    threads = machine.processors.usable_cores
    cache = last_level_bytes(machine)
    usable = machine.memory.usable

    def rates(memory_bytes: int) -> Limits:
        seconds = 0.5 / SHORT
        return measure_limits(
            threads=threads, cache_bytes=cache, memory_bytes=memory_bytes, seconds=seconds
        )

    return rates(usable), rates(4 * weight_bytes)

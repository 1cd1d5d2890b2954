"""How near to the machine's limits a forward is, and what the engine adds to it."""

from harness import wait_until_idle
from parts import Findings, Setup
from rich.table import Table

from tokenworks.cli.measurements import last_level_bytes
from tokenworks.fleet.discover.machine import discover
from tokenworks.fleet.discover.measure import Limits, measure_limits

ROWS = (1, 2, 4, 8, 16, 64, 512)
CONTEXT = 100
"""Tokens before the one whose step is timed, about."""


def measure(setup: Setup, found: Findings) -> None:
    ours, suffix = setup.ours, setup.suffix
    wait_until_idle()
    memory, cached = read_rates(ours.weight_bytes)
    fastest = max(memory.read_all_threads, cached.read_all_threads)
    read = ours.read_bytes(CONTEXT)
    step, forward = ours.decode_step_s()
    forwards = {rows: ours.forward_s(rows) for rows in ROWS}
    found.keys |= {
        f"decode_roofline_fraction{suffix}": round(read / fastest / step, 3),
        f"verify4_cost{suffix}": round(forwards[4] / forwards[1], 3),
    }
    if not suffix:
        found.keys |= {
            "python_overhead_fraction": round((step - forward) / step, 4),
            "read_gb_per_s": round(fastest / 1e9, 1),
        }
    found.details[f"limits{suffix}"] = {
        "read_gb_per_s": {
            "beyond the caches": memory.read_all_threads / 1e9,
            "as many bytes as the weights": cached.read_all_threads / 1e9,
            "last level of caches, MB": memory.cache_bytes / 1e6,
        },
        "roofline_fraction": {
            "beyond the caches": read / memory.read_all_threads / step,
            "as many bytes as the weights": read / cached.read_all_threads / step,
        },
        "read_bytes_per_token": read,
        "weight_bytes": ours.weight_bytes,
        "decode_step_s": step,
        "decode_forward_s": forward,
        "forward_s": {str(rows): seconds for rows, seconds in forwards.items()},
    }
    table = Table(f"rows of a forward, {setup.path.stem}", "ms", "against one row", "rows/s")
    for rows, seconds in forwards.items():
        times = seconds / forwards[1]
        table.add_row(str(rows), f"{seconds * 1e3:.2f}", f"{times:.2f}", f"{rows / seconds:.0f}")
    found.tables.append(table)


def read_rates(weight_bytes: int) -> tuple[Limits, Limits]:
    """Of a buffer beyond the caches, and of one as large as the weights: where they fit a cache,
    reading memory is no limit, and the honest one is the faster of the two."""
    machine = discover()
    threads = machine.processors.usable_cores
    cache = last_level_bytes(machine)
    usable = machine.memory.usable
    memory = measure_limits(threads=threads, cache_bytes=cache, memory_bytes=usable)
    same = measure_limits(threads=threads, cache_bytes=cache, memory_bytes=4 * weight_bytes)
    return memory, same

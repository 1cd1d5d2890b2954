"""`tokenworks devices`: what this machine has and what it is measured to do."""

from typing import Any

import msgspec
from rich.filesize import decimal
from rich.table import Table

from tokenworks.cli.console import data, printable
from tokenworks.cli.measurements import Measurements, busy, measurements
from tokenworks.config import Config
from tokenworks.fleet.discover.accelerators import Accelerator
from tokenworks.fleet.discover.machine import Machine, discover


def run(config: Config, *, as_json: bool, measure: bool) -> None:
    """Print it, measuring first if this machine was not measured yet or `measure` asks for it."""
    machine = discover()
    measured = measurements(config, machine, again=measure)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(record(machine, measured))).decode())
        return
    _print("processors", _processors(machine))
    _print("memory", _memory(machine))
    _print("accelerators", _accelerators(machine))
    _print("measured", measured_rows(machine, measured))


def record(machine: Machine, measured: Measurements) -> dict[str, Any]:
    """All of it, for programs: sizes in bytes, rates per second."""
    accelerators = [
        {**msgspec.structs.asdict(one), "state": one.state} for one in machine.accelerators
    ]
    said = {**msgspec.structs.asdict(machine), "accelerators": accelerators}
    return {**said, "kernel_paths": kernel_paths(), "measured": measured}


def kernel_paths() -> tuple[str, ...]:
    """Instruction-set paths of the native kernels that run here, best first; none without them."""
    try:
        from tokenworks.inference.executors.native import supported_paths
    except ImportError:
        return ()
    return supported_paths()


def size(amount: int | None) -> str:
    return "unknown" if amount is None else decimal(amount)


def rate(amount: float) -> str:
    """Bytes a second, for people."""
    return f"{amount / 1e9:.1f} GB/s"


def _processors(machine: Machine) -> list[tuple[str, str]]:
    found = machine.processors
    usable = f"{found.usable_cores} for us ({found.usable_threads} threads allowed"
    usable += ")" if found.share is None else f", control group grants {found.share:g})"
    caches = (f"L{one.level} {one.kind} {one.count} × {decimal(one.bytes)}" for one in found.caches)
    return [
        ("model", f"{found.model}, {found.architecture}"),
        ("cores", f"{found.physical_cores}, {found.logical_cores} threads; {usable}"),
        ("instructions", " ".join(found.instruction_sets) or "none that help"),
        ("our kernels", ", ".join(kernel_paths()) or "do not load: numpy would serve, slowly"),
        ("caches", ", ".join(caches) or "unknown"),
    ]


def _memory(machine: Machine) -> list[tuple[str, str]]:
    found = machine.memory
    rows = [("total", size(found.total)), ("available", size(found.available))]
    if found.limit is not None:
        rows.append(("control group", f"{size(found.limit)}, of which {size(found.left)} left"))
    for node in machine.numa_nodes:
        near = f"{len(node.cpus)} CPUs, {size(node.total)}, {size(node.free)} free"
        rows.append((f"NUMA node {node.number}", near))
    return rows


def _accelerators(machine: Machine) -> list[tuple[str, str]]:
    rows = [(one.address, f"{_name(one)}: {one.state}") for one in machine.accelerators]
    return rows or [("none", "no display or processing accelerator on the PCI bus")]


def _name(one: Accelerator) -> str:
    return " ".join(part for part in (one.vendor, one.id, f"({one.kind})") if part)


def measured_rows(machine: Machine, measured: Measurements) -> list[tuple[str, str]]:
    limits, kernels = measured.limits, measured.kernels
    of = f"largest int8 of {decimal(limits.buffer_bytes)}, by numpy"
    rows = [
        ("read, 1 thread", f"{rate(limits.read_one_thread)} ({of})"),
        (f"read, {limits.threads} threads", rate(limits.read_all_threads)),
        ("f32", f"{limits.f32_operations / 1e9:.0f} G operations/s (matrix product, numpy's BLAS)"),
    ]
    if kernels is None:
        rows.append(("int8", "not measured: our kernels do not load"))
    else:
        share = kernels.weight_rate / limits.read_all_threads
        speed = f"{kernels.int8_operations / 1e9:.0f} G operations/s"
        rows.append(("int8", f"{speed} ({kernels.path}, prompt of 512, 4-bit weights)"))
        decode = f"{rate(kernels.weight_rate)} of weights, {share:.0%} of what reading reaches"
        rows.append(("decode", decode))
    if busy(measured, machine):
        note = f"the load was {measured.load:.1f}; when idle: tokenworks devices --measure"
        rows.append(("note", note))
    return rows


def _print(title: str, rows: list[tuple[str, str]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    table.show_header = False
    for name, value in rows:
        table.add_row(printable(name), printable(value))
    data.print(table)

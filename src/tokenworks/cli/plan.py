"""Which plan holds for the weights of a model here, remembered or made now; how it is shown."""

import shlex
import time
from pathlib import Path

import msgspec
from rich.filesize import decimal
from rich.table import Table

from tokenworks.cli.console import aside, data, printable
from tokenworks.config import Config
from tokenworks.errors import ModelError, UnsupportedByKernels
from tokenworks.fleet.discover.processors import read_processors, usable_cores
from tokenworks.inference.models.library import Library
from tokenworks.inference.models.packing import WIDE_PATHS
from tokenworks.inference.models.panel_format import bits_of
from tokenworks.inference.models.rounding import AS_STORED, NO_ROUNDING, Formats, Rounding
from tokenworks.inference.plan.make import make_plan
from tokenworks.inference.plan.plan import Plan, Row
from tokenworks.inference.plan.remembered import plan_name, read_plan, write_plan

UP_SECONDS = 10.0
"""What planning may add to the first start with a model; `models inspect --plan` has no limit."""


def rounding_for(config: Config, path: Path) -> Rounding:
    """What the engine is to round the weights of `config.model`, at `path`, to.

    Makes the plan, within `UP_SECONDS`, where none is remembered.
    """
    place = _place(config, config.model)
    if place is None:
        return NO_ROUNDING
    plan = read_plan(place[0])
    if plan is None:
        aside.print(f"choosing how weights of {config.model} are held here (once)", style="dim")
        try:
            plan = _made(config, path, *place, UP_SECONDS)
        except UnsupportedByKernels:  # the executor says so in its turn
            return NO_ROUNDING
    if summary := summary_of(plan):
        command = f"tokenworks models inspect {shlex.quote(config.model)} --plan"
        aside.print(f"{summary}; more: {command}", style="dim")
    return plan.rounding


def remembered_formats(config: Config, name: str) -> Formats:
    """What classes of a model's matrices are rounded to when it is loaded here, as far as known."""
    try:
        place = _place(config, name)
    except ModelError:
        return AS_STORED
    plan = read_plan(place[0]) if place else None
    return plan.rounding.formats if plan else AS_STORED


def runs_wide(config: Config) -> bool:
    """Whether weights are held here as WIDE_PATHS hold them."""
    isa = kernel_path(config)
    return isa is not None and isa in WIDE_PATHS


def show_plan(config: Config, name: str, *, as_json: bool) -> None:
    """Print the plan, making it first if there is none or time was too short for all of it."""
    library = Library(config.home)
    path = library.path(name)
    place = _place(config, name, whatever_is_set=True)
    if place is None:
        raise UnsupportedByKernels(
            "There is no plan without the native kernels", hint="tokenworks doctor"
        )
    plan = read_plan(place[0])
    if plan is None or not plan.complete:
        aside.print("measuring, which takes as long as it needs", style="dim")
        plan = _made(config, path, *place, None)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(plan)).decode())
        return
    _show(library.id(name), plan, config)


def summary_of(plan: Plan) -> str:
    """In one line what is chosen, or why all stays as it is though it might not; else nothing."""
    if plan.rounding.formats and plan.quality:
        formats = plan.rounding.formats
        held = ", ".join(f"{name} in {bits_of(formats[name])} bits" for name in formats)
        saved = 1 - plan.nbytes / plan.stored_bytes
        return f"{held}: {saved:.0%} less memory, KL divergence {plan.quality.kl:.4f} nats"
    return "" if plan.complete else f"weights stay as the file has them: {plan.note}"


def _place(config: Config, name: str, *, whatever_is_set: bool = False) -> tuple[Path, str] | None:
    """Where the plan for a model is kept and the path that it is for; None if none is made."""
    engine = config.engine
    if engine.executor == "reference" or (engine.weights == "file" and not whatever_is_set):
        return None
    if (isa := kernel_path(config)) is None:  # the numpy executor computes as the file says
        return None
    processors = read_processors()
    caches = [(cache.level, cache.kind, cache.bytes) for cache in processors.caches]
    file = plan_name(
        model=Library(config.home).identity(name),
        machine=repr((processors.model, processors.architecture, caches)),
        isa=isa,
        threads=engine.threads or usable_cores(),
    )
    return config.home.plans / file, isa


def kernel_path(config: Config) -> str | None:
    """The instruction-set path that the settings choose; None without the native kernels."""
    try:
        from tokenworks.inference.executors.native import choose_path
    except ImportError:
        return None
    return choose_path(config.engine.isa)


def _made(config: Config, path: Path, place: Path, isa: str, budget: float | None) -> Plan:
    plan = make_plan(
        path,
        isa=isa,
        threads=config.engine.threads or usable_cores(),
        budget=budget,
        timer=time.perf_counter,
    )
    try:
        write_plan(place, plan)
    except OSError as problem:
        aside.print(f"the plan is not remembered: {problem}")
    return plan


def _show(id: str, plan: Plan, config: Config) -> None:
    data.print(f"{printable(id)}  {plan.path}, {plan.threads} threads", style="bold")
    table = Table(
        *("class", "held in", "size", "1 row", "16 rows", "KL", "same top"),
        box=None,
        header_style="bold",
    )
    for column in table.columns:
        column.no_wrap = True
    table.add_column("why")
    for row in plan.rows:
        table.add_row(*_cells(row))
    if plan.rows:
        data.print(table)
        data.print()
    weights = f"weights {decimal(plan.nbytes)}"
    if plan.nbytes < plan.stored_bytes:
        weights += f" instead of {decimal(plan.stored_bytes)}"
    data.print(weights)
    if plan.quality:
        data.print(f"all that is chosen, together: {plan.gate.judge(plan.quality).explanation}")
    if plan.note:
        data.print(plan.note)
    if config.engine.weights == "file":
        aside.print("not in use: the setting engine.weights is 'file'")


def _cells(row: Row) -> tuple[str, ...]:
    found = row.quality
    return (
        row.matrix_class,
        f"{bits_of(row.format)}-bit" if row.format else "as stored",
        decimal(row.nbytes),
        f"{row.alone_seconds * 1e6:,.0f} µs",
        f"{row.together_seconds * 1e6:,.0f} µs",
        f"{found.kl:.4f}" if found else "",
        f"{found.same_top_token:.1%}" if found else "",
        f"chosen: {row.why}" if row.chosen else row.why,
    )

"""`tokenworks models compress`: a smaller model for a memory or speed target, and its quality."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tokenworks.cli.console import aside, data, printable
from tokenworks.cli.devices import size
from tokenworks.cli.measurements import measurements
from tokenworks.cli.models import progress_bar
from tokenworks.cli.plan import runs_wide
from tokenworks.config import Config
from tokenworks.errors import ConfigError, ModelError
from tokenworks.fleet.discover.machine import discover
from tokenworks.inference.compression.compressing import (
    METHODS,
    Compression,
    Method,
    Plan,
    Result,
    Types,
    open_compression,
)
from tokenworks.inference.compression.plan import for_bits, part_of, with_types
from tokenworks.inference.models.library import Library
from tokenworks.inference.models.packing import footprint
from tokenworks.inference.models.progress import Progress
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.prediction import PROGRAM_BYTES, token_seconds
from tokenworks.inference.quality import Gate, calibration_text

TYPES = {4: TensorType.Q4_0, 5: TensorType.Q5_0, 8: TensorType.Q8_0}
"""What the matrices of the layers become for each `--bits`."""
_MOST_TEXT_BYTES = 1 << 20
_CONTEXT = 64
"""Tokens before the one whose speed is meant."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the model is to become: one of them, or 4 bits."""

    bits: int | None = None
    megabytes: float | None = None
    decode: float | None = None


@dataclass(frozen=True, kw_only=True)
class Wishes:
    target: Target
    method: Method
    text: Path | None
    gate: Gate
    force: bool


def method_named(name: str) -> Method:
    """Raises ConfigError for what is none."""
    for method in METHODS:
        if name == method:
            return method
    raise ConfigError(f"--method cannot be {name!r}", hint=f"it can be: {', '.join(METHODS)}")


def run(config: Config, name: str, out: Path, wishes: Wishes, *, as_json: bool) -> None:
    """Write the smaller model and say how near it is. Raises ConfigError and ModelError."""
    _check(out, wishes.target)
    text = calibration_text() if wishes.text is None else _read(wishes.text)
    source = Library(config.home).path(name.removeprefix("file:"))
    with (
        progress_bar(name) as progress,
        open_compression(source, text, out.parent, progress) as compression,
    ):
        _state_memory(compression)
        plan = _plan(config, compression, wishes.target, progress)
        _state_plan(compression, plan, out)
        result = compression.write(
            out,
            plan,
            gate=wishes.gate,
            method=wishes.method,
            force=wishes.force,
            progress=progress,
        )
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(result)).decode())
    else:
        _show(result)


def _check(out: Path, target: Target) -> None:
    given = [value for value in (target.bits, target.megabytes, target.decode) if value is not None]
    if len(given) > 1:
        raise ConfigError(
            "--bits, --size and --decode contradict each other", hint="give one of them"
        )
    if not all(value > 0 for value in given):
        raise ConfigError(f"A target must be more than 0, not {given[0]:g}")
    if target.bits is not None and target.bits not in TYPES:
        known = ", ".join(map(str, TYPES))
        raise ConfigError(f"--bits cannot be {target.bits}", hint=f"it can be: {known}")
    if out.exists():
        raise ConfigError(f"'{out}' is there already", hint="name another file with --out")
    if not out.parent.is_dir():
        raise ConfigError(f"There is no folder '{out.parent}'", hint=f"mkdir -p {out.parent}")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_TEXT_BYTES).decode("utf-8", "ignore")
    except OSError as problem:
        raise ConfigError(f"The text '{path}' cannot be read: {problem.strerror}") from None


def _state_memory(compression: Compression) -> None:
    needed = compression.memory_bytes + PROGRAM_BYTES
    usable = discover().memory.usable
    aside.print(f"memory: up to {size(needed)} while it works; {size(usable)} can be taken here")
    if usable is not None and needed > usable:
        raise ModelError(
            f"Compressing takes up to {size(needed)} of memory, but only {size(usable)} is free",
            hint="end other programs, or give a shorter text with --text",
        )


def _plan(config: Config, compression: Compression, target: Target, progress: Progress) -> Plan:
    if target.megabytes is not None:
        return compression.within(target.megabytes * 1e6, compression.file_bytes, progress)
    if target.decode is None:
        return compression.fixed(for_bits(TYPES[target.bits or 4]))
    kernels = measurements(config, discover()).kernels
    if kernels is None:
        raise ModelError(
            "No speed can be foreseen: our kernels do not load here", hint="give a --size instead"
        )
    model = compression.model

    wide = runs_wide(config)

    def seconds(types: Types) -> float:
        made = footprint(with_types(model.tensors, types), model.config, wide=wide)
        return token_seconds(made, _CONTEXT, kernels)

    return compression.within(1 / target.decode, seconds, progress)


def _state_plan(compression: Compression, plan: Plan, out: Path) -> None:
    parts = Counter((part_of(name), type.name) for name, type in plan.types.items())
    said = ", ".join(f"{part} {type}" for part, type in sorted(p for p in parts if p[0]))
    aside.print(f"plan: {said}")
    aside.print(f"size: {size(compression.source_bytes)} becomes {size(plan.file_bytes)}")
    free = shutil.disk_usage(out.parent).free
    if free < plan.file_bytes:
        raise ModelError(
            f"'{out.parent}' has {size(free)} free, less than the file takes",
            hint="name a file on another disk with --out",
        )


def _show(result: Result) -> None:
    verdict = "passes" if result.verdict.passed else "FAILS the gate, written as --force asks"
    data.print(f"{printable(result.path)}  {size(result.file_bytes)}", style="bold")
    data.print(f"quality: {result.verdict.explanation}: {verdict}")
    data.print(f"next: tokenworks up --model {printable(result.path)}")

"""`tokenworks models fit`: whether a model fits here and how fast it should be, before a pull."""

import msgspec
from rich.table import Table

from tokenworks.cli.console import aside, data
from tokenworks.cli.devices import rate, size
from tokenworks.cli.measurements import Measurements, busy, measurements
from tokenworks.cli.plan import remembered_formats, runs_wide
from tokenworks.config import Config
from tokenworks.errors import ModelNotFound
from tokenworks.fleet.discover.machine import Machine, discover
from tokenworks.inference.models.catalogue import find
from tokenworks.inference.models.folder_files import size_of
from tokenworks.inference.models.footprint import Footprint
from tokenworks.inference.models.kv_format import KvFormat
from tokenworks.inference.models.library import Library
from tokenworks.inference.models.packing import footprint_of
from tokenworks.inference.models.rounding import Formats
from tokenworks.inference.models.sources.hub_heads import model_head
from tokenworks.inference.models.sources.hub_source import HubSource
from tokenworks.inference.models.sources.spelling import parse_source
from tokenworks.inference.prediction import (
    PROGRAM_BYTES,
    AtContext,
    at_contexts,
    weights_seconds,
)


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. Sizes in bytes; `usable_bytes` is what a program can take here now;
    `read_rate` the measured limit, `weight_rate` what kernels reach, `efficiency` their ratio."""

    id: str
    pulled: bool
    file_bytes: int
    download_bytes: int | None
    packed_bytes: int
    program_bytes: int
    kv_format: KvFormat
    kv_bytes_per_token: int
    usable_bytes: int | None
    read_rate: float
    weight_rate: float | None
    efficiency: float | None
    contexts: tuple[AtContext, ...]


def run(config: Config, name: str, *, as_json: bool) -> None:
    """Print whether it fits. Raises ModelError."""
    library = Library(config.home)
    formats, wide = remembered_formats(config, name), runs_wide(config)
    model = _model(library, name, formats, wide=wide)
    machine = discover()
    measured = measurements(config, machine)
    fit = _fit(model, machine, measured, config.engine.kv_format)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(fit)).decode())
        return
    _show(fit, measured)
    if busy(measured, machine):
        aside.print("measured on a busy machine; when idle: tokenworks devices --measure")


class _Model(msgspec.Struct, frozen=True):
    id: str
    pulled: bool
    file_bytes: int
    download_bytes: int | None
    footprint: Footprint


def _model(library: Library, name: str, formats: Formats, *, wide: bool) -> _Model:
    """From the model if it is here, else from what the catalogue knows or the hub has of it."""
    name = name.removeprefix("file:")
    try:
        path = library.path(name)
    except ModelNotFound:
        known, source = find(name), parse_source(name)
        if known is not None and known.footprint is not None:
            sizes = (known.file_bytes, known.download_bytes)
            return _Model(known.name, False, *sizes, known.footprint)
        if isinstance(source, HubSource):
            with model_head(source) as head:
                sizes = (head.download_bytes, head.download_bytes)
                return _Model(library.id(name), False, *sizes, footprint_of(head.path, wide=wide))
        raise
    footprint = footprint_of(path, formats, wide=wide)
    return _Model(library.id(name), True, size_of(path), None, footprint)


def _fit(model: _Model, machine: Machine, measured: Measurements, kv_format: KvFormat) -> Fit:
    limits, kernels = measured.limits, measured.kernels
    footprint = msgspec.structs.replace(model.footprint, kv_format=kv_format)
    usable = machine.memory.usable
    seconds = weights_seconds(footprint, kernels) if kernels else None
    weight_rate = footprint.packed_bytes / seconds if seconds else None
    return Fit(
        id=model.id,
        pulled=model.pulled,
        file_bytes=model.file_bytes,
        download_bytes=model.download_bytes,
        packed_bytes=footprint.packed_bytes,
        program_bytes=PROGRAM_BYTES,
        kv_format=kv_format,
        kv_bytes_per_token=footprint.kv_bytes_per_token,
        usable_bytes=usable,
        read_rate=limits.read_all_threads,
        weight_rate=weight_rate,
        efficiency=weight_rate / limits.read_all_threads if weight_rate else None,
        contexts=at_contexts(footprint, usable, kernels),
    )


def _show(fit: Fit, measured: Measurements) -> None:
    facts = Table(box=None, show_header=False)
    fetch = "" if fit.download_bytes is None else f", {size(fit.download_bytes)} to download"
    facts.add_row("on disk", f"{size(fit.file_bytes)}{'' if fit.pulled else ' once pulled'}{fetch}")
    facts.add_row("weights", f"{size(fit.packed_bytes)} in memory, as our kernels pack them")
    facts.add_row("KV", f"{size(fit.kv_bytes_per_token)} a token of context, in {fit.kv_format}")
    facts.add_row("program", f"about {size(fit.program_bytes)} beside")
    facts.add_row("memory", f"{size(fit.usable_bytes)} can be taken here now")
    facts.add_row("speed", _speed(fit, measured))
    data.print(f"{fit.id}", style="bold")
    data.print(facts)
    table = Table("context", "KV", "needed", "fits", "left", "decode", box=None)
    for row in fit.contexts:
        fits = {True: "yes", False: "no", None: "unknown"}[row.fits]
        speed = row.tokens_per_second
        table.add_row(
            f"{row.tokens:,}",
            size(row.kv_bytes),
            size(row.needed_bytes),
            fits,
            _margin(row.margin_bytes),
            "unknown" if speed is None else f"{speed:.0f} tokens/s",
        )
    data.print()
    data.print(table)


def _margin(amount: int | None) -> str:
    if amount is None:
        return "unknown"
    return size(amount) if amount >= 0 else f"{size(-amount)} too little"


def _speed(fit: Fit, measured: Measurements) -> str:
    if fit.weight_rate is None or fit.efficiency is None or measured.kernels is None:
        return "not predicted: our kernels do not load here"
    reads = f"memory reads at {rate(fit.read_rate)}, weights at {fit.efficiency:.0%} of it"
    kernels = measured.kernels
    return f"{reads} ({rate(fit.weight_rate)}, {kernels.path}, {kernels.threads} threads)"

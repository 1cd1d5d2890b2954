"""`tokenworks models …`, and the progress bar that `up` shows too."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table

from tokenworks.cli.console import aside, data, printable
from tokenworks.cli.plan import remembered_formats
from tokenworks.config import Config
from tokenworks.errors import ModelNotFound
from tokenworks.inference.models.inspection import Inspection
from tokenworks.inference.models.library import Library
from tokenworks.inference.models.progress import Phase, Progress


def show_list(config: Config, *, as_json: bool) -> None:
    entries = Library(config.home).list()
    if as_json:
        print(_as_json([dataclasses.asdict(entry) for entry in entries]))
        return
    table = Table("model", "state", "size", "licence", "what it is", box=None, header_style="bold")
    for entry in entries:
        size = decimal(entry.file_bytes)
        licence = printable(entry.licence) or "?"
        table.add_row(entry.id, entry.state, size, licence, entry.description)
    data.print(table)


def fetch(config: Config, name: str) -> None:
    with progress_bar(name) as progress:
        path = Library(config.home).pull(name, progress)
    print(path)


def ensure(config: Config, name: str) -> tuple[str, Path]:
    """Id and file or folder of a model, fetching it first if it is not here."""
    library = Library(config.home)
    try:
        path = library.path(name)
    except ModelNotFound:
        with progress_bar(name) as progress:
            path = library.pull(name, progress)
    models = config.home.models
    pulled = path.is_relative_to(models)
    return (path.relative_to(models).parts[0] if pulled else library.id(name)), path


def show_inside(config: Config, name: str, *, as_json: bool) -> None:
    found = Library(config.home).inspect(name, remembered_formats(config, name))
    if as_json:
        print(_as_json(_inspection(found)))
        return
    size = f"{decimal(found.file_bytes)}, {found.weights:,} weights"
    data.print(f"{found.id}  {size}", style="bold")
    data.print(f"{found.path}\n")
    facts = Table(box=None, show_header=False)
    for key, value in {"licence": found.licence or "not stated", **_facts(found)}.items():
        facts.add_row(key, printable(str(value)))
    data.print(facts)
    columns = ("tensors", "type", "runs as", "count", "weights", "size")
    groups = Table(*columns, box=None, header_style="bold")
    for group in found.groups:
        stored = (group.tensor_class, group.type.name, group.runs_as)
        amount = (str(group.tensors), f"{group.weights:,}", decimal(group.nbytes))
        groups.add_row(*stored, *amount)
    data.print()
    data.print(groups)


def delete(config: Config, name: str) -> None:
    Library(config.home).remove(name)
    aside.print(f"removed {name}")


@contextmanager
def progress_bar(name: str) -> Iterator[Progress]:
    """A bar on stderr, one a phase. Without a terminal, one line a phase."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[Phase, TaskID] = {}
    with Bars(*columns, console=aside, disable=not aside.is_terminal) as bars:

        def show(phase: Phase, done_bytes: int, total_bytes: int | None) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(f"{phase} {name}", total=total_bytes)
                if bars.disable:
                    aside.print(f"{phase} {name}")
            bars.update(tasks[phase], completed=done_bytes, total=total_bytes)

        yield show


def _facts(found: Inspection) -> dict[str, object]:
    facts = dataclasses.asdict(found.config)
    return {key.replace("_", " "): value for key, value in facts.items() if value is not None}


def _inspection(found: Inspection) -> dict[str, object]:
    groups = [dataclasses.asdict(group) | {"type": group.type.name} for group in found.groups]
    config = dataclasses.asdict(found.config)
    own = {"id": found.id, "path": found.path, "file_bytes": found.file_bytes}
    more = {"licence": found.licence, "metadata": dict(found.metadata)}
    return {**own, **more, "config": config, "groups": groups}


def _as_json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str)).decode()

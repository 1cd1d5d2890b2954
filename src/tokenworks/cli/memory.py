"""What `up` says of memory before it takes any, and when it refuses."""

import shlex
from pathlib import Path

import msgspec

from tokenworks.cli.devices import size
from tokenworks.cli.plan import kernel_path, remembered_formats
from tokenworks.config import Config
from tokenworks.errors import ConfigError
from tokenworks.fleet.discover.memory import Memory
from tokenworks.fleet.discover.processors import usable_cores
from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.memory import (
    MemoryNeed,
    full_context_megabytes,
    most_kv_megabytes,
    native_need,
    reference_need,
)
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.packing import KERNEL_LANES, WIDE_PATHS
from tokenworks.inference.models.rounding import AS_STORED, Formats
from tokenworks.inference.settings import NO_DRAFT, DraftFile, EngineSettings

_SAID = ("model", "engine.kv_memory_mb")
_KEPT_BACK = 16
"""One part of so many is not offered: what can be taken is less or more a moment later."""


def need_of(config: Config, path: Path, draft: DraftFile = NO_DRAFT) -> MemoryNeed:
    """What serving the model at `path` with these settings takes, by its header.

    Raises ModelError for a file that cannot be run, ConfigError if the KV memory is too small.
    """
    formats = remembered_formats(config, config.model)
    need = _need_of(config, config.engine, path, formats)
    if not draft.path:
        return need
    # Nobody guesses for it, so it gives few logits at a time.
    own = msgspec.structs.replace(config.engine, context_length=0, speculation="off")
    return need.with_draft(_need_of(config, own, Path(draft.path), AS_STORED))


def _need_of(config: Config, engine: EngineSettings, path: Path, formats: Formats) -> MemoryNeed:
    model = load_model(path)
    model.close()
    isa = None if engine.executor == "reference" else kernel_path(config)
    if isa is None or model.config.head_dim % KERNEL_LANES:
        return reference_need(model.tensors, model.config, engine)
    return native_need(
        model.tensors,
        model.config,
        engine,
        formats=formats,
        threads=engine.threads or usable_cores(),
        wide=isa in WIDE_PATHS,
    )


def check_memory(config: Config, need: MemoryNeed, memory: Memory) -> None:
    """Raises ConfigError, with the next command, if all of it cannot be taken here now."""
    usable = memory.usable
    if usable is None or need.total <= usable:
        return
    name = config.model
    if megabytes := most_kv_megabytes(need, usable - usable // _KEPT_BACK):
        tokens = megabytes * 2**20 // need.page_bytes * PAGE_TOKENS
        flags = [f"--model {shlex.quote(name)}", *_other_flags(config)]
        hint = f"tokenworks up {' '.join(flags)} --kv-memory-mb {megabytes}"
        hint += f"   # {tokens:,} tokens, prompts and answers of all requests"
    else:
        hint = "end other programs, or take a smaller model: tokenworks models list"
    raise ConfigError(
        f"{name!r} would come to take {size(need.total)} and {size(usable)} can be taken here now: "
        f"{parts_of(need)}",
        hint=hint,
    )


def statement_of(need: MemoryNeed, memory: Memory) -> str:
    """What will be taken, in a line; in another one why no request can be as long as the model's
    context, and what would change that."""
    usable = memory.usable
    here = "" if usable is None else f" of the {size(usable)} that can be taken here"
    said = f"up to {size(need.total)}{here}: {parts_of(need)}"
    if need.kv_tokens < need.context_length:
        said += (
            f"\nno request can have more than {need.kv_tokens:,} tokens; for the model's "
            f"{need.context_length:,}: --kv-memory-mb {full_context_megabytes(need)}"
        )
    return said


def _other_flags(config: Config) -> list[str]:
    """What else was given as flags: with other settings, other tokens fit."""
    owners = {"": config, "engine": config.engine, "server": config.server}
    flags = []
    for key, origin in config.origins.items():
        section, _, name = key.rpartition(".")
        if section in owners and origin.startswith("flag ") and key not in _SAID:
            value = str(getattr(owners[section], name))
            flags.append(f"{origin.removeprefix('flag ')} {shlex.quote(value)}")
    return flags


def parts_of(need: MemoryNeed) -> str:
    parts = (
        f"weights {size(need.weights)}, KV {size(need.kv)} for {need.kv_tokens:,} tokens, "
        f"buffers {size(need.buffers)}, program {size(need.program)}"
    )
    return f"{parts}, draft model {size(need.draft)}" if need.draft else parts

"""The machine's own processors: how many, which instructions, which caches."""

import os
import platform
from collections.abc import Set
from math import ceil
from pathlib import Path

import msgspec

from tokenworks.fleet.discover.files import fields, folders, number, numbers, size, text
from tokenworks.fleet.discover.groups import ROOT, cpu_share

# Those that make a difference to inference, as Linux names them on x86 and on Arm.
_TELLING = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx_vnni_int8", "avx_ne_convert"),
    *("avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx10"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "sme", "sme2"),
)


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """Caches of one kind: `count` of them, each of `bytes`."""

    level: int
    kind: str
    bytes: int
    count: int


class Processors(msgspec.Struct, frozen=True, kw_only=True):
    """`usable_threads` are hardware threads that this process may run on; `usable_cores` physical
    cores among them, and no more than `share`, the CPUs' worth of time that control groups grant
    (None: unlimited)."""

    model: str
    architecture: str
    physical_cores: int
    logical_cores: int
    usable_threads: int
    usable_cores: int
    share: float | None
    instruction_sets: tuple[str, ...]
    caches: tuple[Cache, ...]


def read_processors(root: Path = ROOT, allowed: Set[int] | None = None) -> Processors:
    """What /proc and /sys say. `allowed` are the CPUs that this process may run on."""
    said = text(root / "proc/cpuinfo")
    cpus = _online(root) or frozenset(range(os.cpu_count() or 1))
    usable = frozenset(allowed_cpus() if allowed is None else allowed)
    return Processors(
        model=_model(said),
        architecture=platform.machine(),
        physical_cores=len(_cores(root, cpus)),
        logical_cores=len(cpus),
        usable_threads=len(usable),
        usable_cores=usable_cores(root, usable),
        share=cpu_share(root),
        instruction_sets=_instruction_sets(said),
        caches=_caches(root, cpus),
    )


def usable_cores(root: Path = ROOT, allowed: Set[int] | None = None) -> int:
    """Physical cores among the CPUs we may run on, and no more than the container's share of time.

    Two threads of one core share its vector units, so a second one would gain nothing.
    """
    cores = _cores(root, allowed_cpus() if allowed is None else allowed)
    share = cpu_share(root)
    return max(1, len(cores) if share is None else min(len(cores), ceil(share)))


def allowed_cpus() -> Set[int]:
    """The CPUs that this process may run on; all of them where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _online(root: Path) -> frozenset[int]:
    return numbers(text(root / "sys/devices/system/cpu/online"))


def _cores(root: Path, cpus: Set[int]) -> set[str]:
    """The physical cores that these CPUs belong to, each by the system's words for its CPUs."""
    return {_siblings(root, cpu) for cpu in cpus}


def _siblings(root: Path, cpu: int) -> str:
    """The CPUs of this one's core; just itself where that is unknown."""
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    names = ("core_cpus_list", "thread_siblings_list")
    return next((said for name in names if (said := text(topology / name))), str(cpu))


def _model(said: str) -> str:
    found = fields(said)
    names = ("model name", "Model", "Processor", "cpu model", "uarch")
    return next((found[name] for name in names if found.get(name)), platform.processor() or "?")


def _instruction_sets(said: str) -> tuple[str, ...]:
    has: set[str] = set()
    for line in said.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            has.update(value.split())
    return tuple(name for name in _TELLING if name in has)


def _caches(root: Path, cpus: Set[int]) -> tuple[Cache, ...]:
    """Caches of the CPUs; two CPUs that name the same sharers share one."""
    sharers: dict[tuple[int, str, int], set[str]] = {}
    for cpu in cpus:
        for index in folders(root / f"sys/devices/system/cpu/cpu{cpu}/cache", "index*"):
            level, capacity = number(index / "level"), size(text(index / "size"))
            if level is None or not capacity:
                continue
            key = (level, text(index / "type").lower() or "unified", capacity)
            sharers.setdefault(key, set()).add(text(index / "shared_cpu_list") or str(cpu))
    return tuple(
        Cache(level=level, kind=kind, bytes=capacity, count=len(groups))
        for (level, kind, capacity), groups in sorted(sharers.items())
    )

"""Counts the cores that this process may really use."""

import os
from contextlib import suppress
from math import ceil
from pathlib import Path


def usable_cores(system: Path = Path("/sys")) -> int:
    """Physical cores among the CPUs we may run on, and no more than the container's share of time.

    Two threads of one core share its vector units, so a second one would gain nothing.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    cpus = allowed or set(range(os.cpu_count() or 1))
    cores = {_siblings(system, cpu) for cpu in cpus}
    return max(1, min(len(cores), _share(system)))


def _siblings(system: Path, cpu: int) -> str:
    """The CPUs of this one's core, in the system's words; just itself where that is unknown."""
    topology = system / f"devices/system/cpu/cpu{cpu}/topology"
    for name in ("core_cpus_list", "thread_siblings_list"):
        with suppress(OSError):
            return (topology / name).read_text().strip()
    return str(cpu)


def _share(system: Path) -> int:
    """CPUs' worth of time that the control group (version 2) grants, rounded up."""
    with suppress(OSError, ValueError):
        quota, period = (system / "fs/cgroup/cpu.max").read_text().split()
        return ceil(int(quota) / int(period))
    return os.cpu_count() or 1

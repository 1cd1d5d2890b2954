"""The machine's memory and how it lies: total, free to take, limited, in which NUMA nodes."""

import os
import re
from pathlib import Path

import msgspec

from tokenworks.fleet.discover.files import fields, folders, numbers, size, text
from tokenworks.fleet.discover.groups import ROOT, memory_limit


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes; None where the system does not say. `available` is what programs can take without
    swapping, by the kernel's estimate; `limit` and `left` are the control groups'."""

    total: int | None
    available: int | None
    limit: int | None
    left: int | None

    @property
    def usable(self) -> int | None:
        """Bytes that this process can still take: available, and within the limit."""
        known = [amount for amount in (self.available, self.left) if amount is not None]
        return min(known, default=None)


class NumaNode(msgspec.Struct, frozen=True, kw_only=True):
    """Memory (bytes) and the CPUs that are near to it."""

    number: int
    cpus: tuple[int, ...]
    total: int | None
    free: int | None


def read_memory(root: Path = ROOT) -> Memory:
    found = fields(text(root / "proc/meminfo"))
    total = size(found.get("MemTotal", ""))
    if total is None and root == ROOT:  # no /proc, as on macOS
        total = _physical()
    limit, left = memory_limit(root) or (None, None)
    available = size(found.get("MemAvailable", ""))
    return Memory(total=total, available=available, limit=limit, left=left)


def read_numa_nodes(root: Path = ROOT) -> tuple[NumaNode, ...]:
    """The nodes by number; none where the kernel knows no NUMA."""
    nodes = []
    for folder in folders(root / "sys/devices/system/node", "node*"):
        if not (match := re.fullmatch(r"node(\d{1,5})", folder.name, re.ASCII)):
            continue
        # Lines read "Node 0 MemTotal:  24000000 kB".
        said = fields(re.sub(r"(?m)^\s*Node\s+\d+\s+", "", text(folder / "meminfo")))
        node = NumaNode(
            number=int(match[1]),
            cpus=tuple(sorted(numbers(text(folder / "cpulist")))),
            total=size(said.get("MemTotal", "")),
            free=size(said.get("MemFree", "")),
        )
        nodes.append(node)
    return tuple(sorted(nodes, key=lambda node: node.number))


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None

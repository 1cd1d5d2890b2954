"""Everything about this machine that can be read without measuring."""

from collections.abc import Set
from pathlib import Path

import msgspec

from tokenworks.fleet.discover.accelerators import Accelerator, read_accelerators
from tokenworks.fleet.discover.groups import ROOT
from tokenworks.fleet.discover.memory import Memory, NumaNode, read_memory, read_numa_nodes
from tokenworks.fleet.discover.processors import Processors, read_processors


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine as its operating system describes it."""

    processors: Processors
    memory: Memory
    numa_nodes: tuple[NumaNode, ...]
    accelerators: tuple[Accelerator, ...]


def discover(root: Path = ROOT, *, allowed: Set[int] | None = None) -> Machine:
    """Read what the files below `root` say; `allowed` are the CPUs this process may run on."""
    return Machine(
        processors=read_processors(root, allowed),
        memory=read_memory(root),
        numa_nodes=read_numa_nodes(root),
        accelerators=read_accelerators(root),
    )

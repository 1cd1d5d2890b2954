"""What the control groups (version 2) that this process is in let it use."""

import re
from collections.abc import Iterator
from pathlib import Path

from tokenworks.fleet.discover.files import number, text

ROOT = Path("/")


def cpu_share(root: Path = ROOT) -> float | None:
    """CPUs' worth of time that the groups grant, the strictest deciding; None if unlimited."""
    shares = [share for folder in _folders(root) if (share := _share(folder)) is not None]
    return min(shares, default=None)


def memory_limit(root: Path = ROOT) -> tuple[int, int] | None:
    """Bytes that the group with the least room may use, and still may; None if unlimited.

    File cache counts as free: the kernel gives it up before it ends a program of the group.
    """
    limits = []
    for folder in _folders(root):
        limit = number(folder / "memory.max")
        if limit is not None and limit >= 0:
            used = (number(folder / "memory.current") or 0) - _file_cache(folder)
            limits.append((min(limit, max(0, limit - used)), limit))
    if not limits:
        return None
    left, limit = min(limits)
    return limit, left


def _file_cache(folder: Path) -> int:
    """Bytes of files that the group and those below it have read or written, shared memory not."""
    said = text(folder / "memory.stat")
    return sum(map(int, re.findall(r"(?m)^(?:in)?active_file (\d{1,18})$", said, re.ASCII)))


def _share(folder: Path) -> float | None:
    try:
        quota, period = (int(part) for part in text(folder / "cpu.max").split())
    except ValueError:  # "max", or a line that is not two numbers
        return None
    return quota / period if quota > 0 and period > 0 else None


def _folders(root: Path) -> Iterator[Path]:
    """This process's group and all above it: a limit on any of them binds."""
    top = root / "sys/fs/cgroup"
    yield top  # in a container that hides its parents, the group itself
    own = next(
        (
            line.removeprefix("0::")
            for line in text(root / "proc/self/cgroup").splitlines()
            if line.startswith("0::")
        ),
        "",
    )
    folder = top
    for part in own.split("/"):
        if part in ("", ".", ".."):
            continue
        folder = folder / part
        yield folder

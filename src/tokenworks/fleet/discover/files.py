"""Reads the small files of /proc and /sys. Whatever is missing, torn or odd counts as not said."""

import re
from pathlib import Path

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_MOST_CPUS = 65_536  # far above every machine; bounds the work that an odd file can ask for


def text(path: Path) -> str:
    """The file's content without surrounding space; empty if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except (OSError, ValueError):  # ValueError: a name that an odd file gave holds a zero byte
        return ""


def number(path: Path, *, base: int = 10) -> int | None:
    """The one whole number of a file; None if it holds none (`max`, say)."""
    try:
        return int(text(path), base)
    except ValueError:
        return None


def size(said: str) -> int | None:
    """Bytes of a size as the kernel writes it: `32K`, `8M`, `1024`."""
    match = re.fullmatch(r"(\d{1,12})\s*([KMG]?)B?", said.strip(), re.IGNORECASE | re.ASCII)
    return int(match[1]) * _UNITS[match[2].upper()] if match else None


def numbers(said: str) -> frozenset[int]:
    """The members of a list like `0-3,8`; parts that are no numbers or ranges are left out."""
    members: set[int] = set()
    for part in said.split(","):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part.strip(), re.ASCII)
        if match:
            first, last = int(match[1]), int(match[2] or match[1])
            members.update(range(first, min(last, _MOST_CPUS) + 1))
    return frozenset(members)


def fields(said: str) -> dict[str, str]:
    """`name: value` lines by name, as in /proc/meminfo; of a name said twice, the first."""
    found: dict[str, str] = {}
    for line in said.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def folders(parent: Path, pattern: str) -> list[Path]:
    """The entries of a folder that match, by name; none if it cannot be listed."""
    try:
        return sorted(parent.glob(pattern))
    except OSError:
        return []


def link_name(path: Path) -> str | None:
    """The last part of what a symbolic link points to; None if there is no such link."""
    try:
        return path.readlink().name or None
    except OSError:
        return None

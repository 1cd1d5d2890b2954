"""A benchmark in parts: `SHARD=i/n` runs one, and results of one commit become one record."""

from collections.abc import Mapping
from typing import Any

Record = dict[str, Any]
"""environment, keys, details, and under `shards` the environment of each part by its name."""


def chosen(shard: str, parts: int) -> list[int]:
    """Which of the parts (from 0) `i/n` stands for; all of them if it is empty.

    Raises ValueError, with what it may be, for anything else than 1/n to n/n.
    """
    if not shard:
        return list(range(parts))
    possible = [f"{number}/{parts}" for number in range(1, parts + 1)]
    if shard not in possible:
        raise ValueError(f"SHARD is {shard!r}, but may be: {', '.join(possible)}")
    return [possible.index(shard)]


def merged(old: Mapping[str, Any] | None, new: Record) -> Record:
    """The new results, with those of other parts if they were made of the same commit on the
    same processor."""
    if old is None or _origin(old) != _origin(new):
        return new
    return {
        "environment": new["environment"],
        "shards": {**old.get("shards", {}), **new["shards"]},
        "keys": {**old["keys"], **new["keys"]},
        "details": {**old["details"], **new["details"]},
    }


def _origin(record: Mapping[str, Any]) -> tuple[object, ...]:
    environment = record["environment"]
    return tuple(environment.get(name) for name in ("commit", "cpu", "cores"))

"""In which order requests get rows. Pure: keys that never change while one waits.

Between tenants, the next rows go to whoever was given least (`fairness`). Within one:

A request is due when it came, and LEVEL_S earlier for each level of its priority: whoever comes
later than that cannot be due before it, so low priority delays and never starves.

Among those that are due alike, short prompts go first: PATIENCE times the seconds that a prompt
still takes are added. So a long prompt lets newcomers by until it has waited PATIENCE times its own
length, and no longer. A deadline brings a request forward to the latest moment it can begin.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush, heapreplace, merge
from typing import Generic, TypeVar

LOWEST_PRIORITY, HIGHEST_PRIORITY = -10, 10

LEVEL_S = 10.0
"""Seconds of waiting that make up for one level of priority."""

PATIENCE = 20.0

T = TypeVar("T")
Entry = tuple[float, int, T]
"""Turn (the least is next), number in order of arrival, who it is."""


def due(arrived: float, priority: int) -> float:
    """When a request that arrived at a moment is due, in seconds on the same clock."""
    return arrived - LEVEL_S * priority


def turn(due: float, prompt_s: float, deadline: float | None = None) -> float:
    """The key by which requests are ordered. `prompt_s`: seconds that the rest of the prompt takes;
    `deadline`: when it must be computed."""
    key = due + PATIENCE * prompt_s
    return key if deadline is None else min(key, deadline - prompt_s)


class Waiting(Generic[T]):
    """Who waits, a line a tenant, each in order of turn."""

    def __init__(self) -> None:
        self._lines: defaultdict[str, list[Entry[T]]] = defaultdict(list)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        """Everybody, a tenant after the other."""
        for line in self._lines.values():
            for _, _, each in line:
                yield each

    @property
    def tenants(self) -> tuple[str, ...]:
        """Those with somebody in line."""
        return tuple(self._lines)

    def line(self, tenant: str) -> Sequence[Entry[T]]:
        """A tenant's entries, the next first. Not to be kept: it changes."""
        return self._lines.get(tenant, ())

    def add(self, tenant: str, entry: Entry[T]) -> None:
        """Numbers must differ."""
        insort(self._lines[tenant], entry)
        self._count += 1

    def remove(self, tenant: str, turn: float, number: int) -> None:
        """Take out the entry with this turn and number, which must be there."""
        line = self._lines[tenant]
        position = bisect_left(line, (turn, number))
        assert line[position][:2] == (turn, number), "nobody waits here under this number"
        del line[position]
        self._count -= 1
        if not line:
            del self._lines[tenant]


class Turns(Generic[T]):
    """Everybody who could be given rows of one forward, one after the other: always who is next of
    the tenant that was given least, what this forward gives included."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, float, int, T, str, Iterator[Entry[T]]]] = []

    def add(
        self, tenant: str, given: int, begun: Iterable[Entry[T]], waiting: Sequence[Entry[T]]
    ) -> None:
        """A tenant that was given so many rows: those whose turn it was already, in any order, and
        its line. At least one of them has somebody."""
        line = merge(sorted(begun), waiting)
        heappush(self._heap, (given, *next(line), tenant, line))

    def __bool__(self) -> bool:
        return bool(self._heap)

    @property
    def next(self) -> T:
        return self._heap[0][3]

    def give(self, rows: int) -> None:
        """So many rows, or none, go to who is next; it has had its turn."""
        given, _, _, _, tenant, line = self._heap[0]
        following = next(line, None)
        if following is None:
            heappop(self._heap)
        else:
            heapreplace(self._heap, (given + rows, *following, tenant, line))

"""The newest requests, for people who ask why one went where it went. Holds no text of any."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

MOST: Final = 1000
MOST_WAITING: Final = 1000
"""Records that wait for a follower; one who is slower misses the rest."""


@dataclass(slots=True, kw_only=True)
class Record:
    """One request. Times in milliseconds; `at` in Unix seconds."""

    request_id: str
    at: float
    tenant: str
    key_id: str
    model: str
    label: str
    found: tuple[str, ...] = ()  # kinds of what detectors found
    masked: int = 0  # how many findings were masked
    route: dict[str, Any] = field(default_factory=dict)
    tried: list[dict[str, Any]] = field(default_factory=list)
    backend: str = ""
    status: str = "running"
    error: str = ""
    money: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token_ms: float | None = None
    total_ms: float | None = None

    def brief(self) -> dict[str, Any]:
        return {
            name: getattr(self, name) for name in self.__slots__ if name not in ("route", "tried")
        }

    def whole(self) -> dict[str, Any]:
        return {**self.brief(), "route": self.route, "tried": self.tried}


class Recent:
    """Finds records by their request's id; the oldest are forgotten."""

    def __init__(self, most: int = MOST) -> None:
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._most = most
        self._followers: set[asyncio.Queue[Record]] = set()

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> None:
        self._records[record.request_id] = record
        while len(self._records) > self._most:
            self._records.popitem(last=False)

    def ended(self, record: Record) -> None:
        """Tell whoever follows."""
        for queue in self._followers:
            with suppress(asyncio.QueueFull):
                queue.put_nowait(record)

    def find(self, request_id: str) -> Record | None:
        return self._records.get(request_id)

    def newest(self, limit: int) -> list[Record]:
        return list(islice(reversed(self._records.values()), limit))

    @contextmanager
    def followed(self) -> Iterator["asyncio.Queue[Record]"]:
        """A queue of requests as they end."""
        queue: asyncio.Queue[Record] = asyncio.Queue(MOST_WAITING)
        self._followers.add(queue)
        try:
            yield queue
        finally:
            self._followers.discard(queue)

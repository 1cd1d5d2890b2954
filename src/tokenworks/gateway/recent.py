"""The newest requests, for people who ask why one went where it went. Holds no text of any."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any, Final

from tokenworks.accounts.ledger import Settlement
from tokenworks.telemetry.facts import Content, Operation, Tokens
from tokenworks.telemetry.trace import TraceContext

MOST: Final = 1000
MOST_WAITING: Final = 1000
"""Records that wait for a follower; one who is slower misses the rest."""

_NOT_BRIEF: Final = frozenset({"route", "tried", "trace", "tokens", "content"})


@dataclass(slots=True, kw_only=True)
class Record:
    """One request. Times in milliseconds; `at` in Unix seconds.

    `content` is there only where traces may hold it, and nothing shows it here.
    """

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
    gap_p50_ms: float | None = None  # between pieces
    gap_p99_ms: float | None = None
    total_ms: float | None = None
    energy_j: float | None = None
    operation: Operation = "chat"
    trace: TraceContext | None = None
    tokens: Tokens = field(default_factory=Tokens)
    content: Content | None = None

    def settled(self, settlement: Settlement, tried: Sequence[dict[str, Any]]) -> None:
        """What it took is known now."""
        self.tried = list(tried)
        self.backend = settlement.backend
        self.money = settlement.money
        self.energy_j = settlement.energy_j
        self.gap_p50_ms, self.gap_p99_ms = settlement.gap_p50_ms, settlement.gap_p99_ms
        self.prompt_tokens = settlement.prompt_tokens
        self.completion_tokens = settlement.completion_tokens
        self.tokens = Tokens(
            prompt=settlement.prompt_tokens,
            cached=settlement.cached_tokens,
            completion=settlement.completion_tokens,
            reasoning=settlement.reasoning_tokens,
        )

    def brief(self) -> dict[str, Any]:
        shown = {name: getattr(self, name) for name in self.__slots__ if name not in _NOT_BRIEF}
        return {**shown, "trace_id": self.trace.trace_id if self.trace else ""}

    def whole(self) -> dict[str, Any]:
        return {**self.brief(), "route": self.route, "tried": self.tried}


class Recent:
    """Finds records by their request's id; the oldest are forgotten.

    `on_end` hears of each request as it ends, before those who follow.
    """

    def __init__(
        self, most: int = MOST, on_end: Callable[[Record], None] = lambda record: None
    ) -> None:
        self._on_end = on_end
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._count = count(1)
        self._most = most
        self._followers: set[asyncio.Queue[Record]] = set()

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> None:
        """Clients choose ids: a record whose id is taken is listed, and hides no other."""
        name = record.request_id
        if name in self._records:
            name = f"{name}#{next(self._count)}"
        self._records[name] = record
        while len(self._records) > self._most:
            self._records.popitem(last=False)

    def ended(self, record: Record) -> None:
        """Tell whoever follows."""
        self._on_end(record)
        record.content = None  # told, and not to be kept
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

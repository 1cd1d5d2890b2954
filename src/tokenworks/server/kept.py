"""Responses that are kept, so that a later request can go on from one by its id."""

from dataclasses import dataclass
from typing import Protocol

from tokenworks.gateway.labels import Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A response with the items that led to it. What goes on from it has its label at least; what
    detectors find in the items comes on top each time."""

    identity: str
    tenant: str
    label: Label
    response: bytes  # JSON, as it was sent
    items: bytes  # JSON: all items before it, its own included

    @property
    def size(self) -> int:
        return len(self.response) + len(self.items)


class ResponseStore(Protocol):
    """Keeps responses apart by tenant: nobody can name another's."""

    async def get(self, tenant: str, identity: str) -> Kept | None: ...

    async def put(self, kept: Kept) -> None: ...

    async def delete(self, tenant: str, identity: str) -> bool:
        """Whether there was one."""
        ...


class MemoryStore:
    """The newest responses, as many as fit into `most_bytes`, until the process ends."""

    def __init__(self, most_bytes: int = 128 << 20) -> None:
        self._kept: dict[tuple[str, str], Kept] = {}
        self._most, self._size = most_bytes, 0

    async def get(self, tenant: str, identity: str) -> Kept | None:
        return self._kept.get((tenant, identity))

    async def put(self, kept: Kept) -> None:
        await self.delete(kept.tenant, kept.identity)
        self._kept[kept.tenant, kept.identity] = kept
        self._size += kept.size
        while self._size > self._most:
            await self.delete(*next(iter(self._kept)))

    async def delete(self, tenant: str, identity: str) -> bool:
        gone = self._kept.pop((tenant, identity), None)
        self._size -= 0 if gone is None else gone.size
        return gone is not None

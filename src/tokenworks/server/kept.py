"""Responses that are kept, so that a later request can go on from one by its id."""

from dataclasses import dataclass
from typing import Protocol

from tokenworks.gateway.labels import Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A response with the items that led to it. What goes on from it has its label at least."""

    identity: str
    tenant: str
    label: Label
    response: bytes  # JSON, as it was sent
    items: bytes  # JSON: all items before it, its own included


class ResponseStore(Protocol):
    """Keeps responses apart by tenant: nobody can name another's."""

    async def get(self, tenant: str, identity: str) -> Kept | None: ...

    async def put(self, kept: Kept) -> None: ...

    async def delete(self, tenant: str, identity: str) -> bool:
        """Whether there was one."""
        ...


class MemoryStore:
    """The newest `most` responses, until the process ends."""

    def __init__(self, most: int = 1000) -> None:
        self._kept: dict[tuple[str, str], Kept] = {}
        self._most = most

    async def get(self, tenant: str, identity: str) -> Kept | None:
        return self._kept.get((tenant, identity))

    async def put(self, kept: Kept) -> None:
        self._kept[kept.tenant, kept.identity] = kept
        while len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    async def delete(self, tenant: str, identity: str) -> bool:
        return self._kept.pop((tenant, identity), None) is not None

"""Responses that are kept, so that a later request can go on from one by its id."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tokenworks.accounts.keys import Key
from tokenworks.gateway.labels import Label


class Owner(NamedTuple):
    """Whose a response is: a user's of a tenant, or a key's that is nobody's in particular."""

    tenant: str
    holder: str


def owner_of(key: Key) -> Owner:
    """Keys of one user share what is kept; a key without a user shares with no other."""
    holder = f"user:{key.user}" if key.user else f"key:{key.id}" if key.id else ""
    return Owner(key.tenant, holder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A response with the items that led to it. What goes on from it has its label at least; what
    detectors find in the items comes on top each time."""

    identity: str
    owner: Owner
    label: Label
    response: bytes  # JSON, as it was sent
    items: bytes  # JSON: all items before it, its own included

    @property
    def size(self) -> int:
        return len(self.response) + len(self.items)


class ResponseStore(Protocol):
    """Keeps responses apart by owner: nobody can name another's."""

    async def get(self, owner: Owner, identity: str) -> Kept | None: ...

    async def put(self, kept: Kept) -> bool:
        """Whether it is kept from here on: one that is larger than all room is not."""
        ...

    async def delete(self, owner: Owner, identity: str) -> bool:
        """Whether there was one."""
        ...

    async def prune(self) -> None:
        """Forget what is too old. To be called every now and then."""
        ...


class MemoryStore:
    """The newest responses, as many as fit into `most_bytes`, until the process ends."""

    def __init__(self, most_bytes: int = 128 << 20) -> None:
        self._kept: dict[tuple[Owner, str], Kept] = {}
        self._most, self._size = most_bytes, 0

    async def get(self, owner: Owner, identity: str) -> Kept | None:
        return self._kept.get((owner, identity))

    async def put(self, kept: Kept) -> bool:
        if kept.size > self._most:
            return False
        await self.delete(kept.owner, kept.identity)
        self._kept[kept.owner, kept.identity] = kept
        self._size += kept.size
        while self._size > self._most:
            await self.delete(*next(iter(self._kept)))
        return True

    async def delete(self, owner: Owner, identity: str) -> bool:
        gone = self._kept.pop((owner, identity), None)
        self._size -= 0 if gone is None else gone.size
        return gone is not None

    async def prune(self) -> None:
        """Nothing is older than the process."""

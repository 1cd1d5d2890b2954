"""Who gives its place to somebody who waits, when all places are taken. Pure: knows no pages."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TypeVar

from tokenworks.inference.fairness import Shares


class Holder(Protocol):
    """Somebody with a place, or who asks for one."""

    @property
    def tenant(self) -> str: ...

    @property
    def priority(self) -> int: ...

    @property
    def due(self) -> float:
        """The turn of a holder that has given its place up."""
        ...


H = TypeVar("H", bound=Holder)


def giving_way(asks: H, turn: float, running: Sequence[H], shares: Shares) -> H | None:
    """Who gives its place to `asks`, who is next and whose turn this is; None if nobody does.

    `running` hold all places, the least urgent last. Within a tenant a place goes to a higher
    priority; between tenants, from one with more than its part of the places to one with less.
    Whoever gives it comes after who gets it, so that no place goes to and fro.
    """
    own = next((holder for holder in reversed(running) if holder.tenant == asks.tenant), None)
    if own is not None and own.priority < asks.priority and turn < own.due:
        return own
    held = Counter(holder.tenant for holder in running)
    part = len(running) // len(shares.asking)
    if held[asks.tenant] >= part:
        return None
    for holder in reversed(running):
        if held[holder.tenant] > part and shares[holder.tenant] > shares[asks.tenant]:
            return holder
    return None

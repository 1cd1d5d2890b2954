"""Whether a waiting sequence had better wait for what another one is computing, to share it.

Pure: sequences in, whom it waits for out. Knows nothing about whose turn it is.
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tokenworks.inference.pages import PageTable

LEAST_SAVED = 8
"""Rows that waiting must save: it can cost a forward more, which takes about as long."""


class Sharer(Protocol):
    """What is to be known of a sequence: see `batcher.Sequence`."""

    @property
    def tokens(self) -> list[int]: ...
    @property
    def table(self) -> PageTable: ...
    @property
    def computed(self) -> int: ...
    @property
    def pending(self) -> int: ...
    @property
    def scoring(self) -> bool: ...
    @property
    def leader(self) -> "Sharer | None": ...


S = TypeVar("S", bound=Sharer)


@dataclass(frozen=True, slots=True)
class Coming(Generic[S]):
    """What a waiting sequence had better wait for: so many of its tokens, that `maker` computes; or
    the scores of its leader, which nobody else can hurry."""

    tokens: int
    maker: S | None = None


def coming(sequence: S, running: Many[S]) -> Coming[S] | None:
    """What a running sequence is about to have computed, if a waiting one had better wait and share
    it, or all of it if it must be scored before; None if it may start.

    It may where little would be saved, or where the other is not as far as it could begin. Who is
    waited for runs, so one that is cancelled or gives way keeps nobody.
    """
    if sequence.leader is not None and sequence.leader.scoring:
        return Coming(len(sequence.tokens) - 1)
    making = [other for other in running if other.pending > 1 and not other.scoring]
    if not making or sequence.scoring:
        return None
    known = sequence.table.match(sequence.tokens).tokens
    most, maker = known + LEAST_SAVED - 1, None
    for other in making:
        common = sequence.table.common(sequence.tokens, other.table, other.tokens)
        if known <= other.computed < common and common > most:
            most, maker = common, other
    return None if maker is None else Coming(most, maker)

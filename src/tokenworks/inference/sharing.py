"""Whether a waiting sequence had better wait for what another one is computing, to share it.

Pure: sequences in, a number out. Knows nothing about whose turn it is.
"""

from collections.abc import Sequence as Many
from typing import Protocol

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


def coming_tokens(sequence: Sharer, running: Many[Sharer]) -> int:
    """How many tokens of a waiting sequence a running one is about to have computed, if it had
    better wait and share them, or all if they must be scored before; 0 if it may start.

    It may where little would be saved, or where the other is not as far as it could begin. Who is
    waited for runs, so one that is cancelled or gives way keeps nobody.
    """
    if sequence.leader is not None and sequence.leader.scoring:
        return len(sequence.tokens) - 1
    making = [other for other in running if other.pending > 1 and not other.scoring]
    if not making or sequence.scoring:
        return 0
    known, most = sequence.table.match(sequence.tokens).tokens, 0
    for other in making:
        common = sequence.table.common(sequence.tokens, other.table, other.tokens)
        if known <= other.computed < common and common - known >= LEAST_SAVED:
            most = max(most, common)
    return most

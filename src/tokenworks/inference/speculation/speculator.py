"""Chooses each forward's drafts, and keeps what each tenant's answers taught."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol

from tokenworks.inference.settings import SpeculationName
from tokenworks.inference.speculation.acceptance import Acceptance
from tokenworks.inference.speculation.drafting import Draft, Drafting, TenantMemory
from tokenworks.inference.speculation.lengths import cheapest_row, choose_lengths
from tokenworks.inference.speculation.sources import KINDS

MOST_DRAFT_TOKENS = 24
_MOST_TENANTS = 32
"""Of each about 2 MB are remembered, once its answers fill both halves."""


class Drafted(Protocol):
    """What is to be known of a sequence. `allowed`: tokens that its answer may still take."""

    tenant: str
    tokens: list[int]
    drafting: Drafting | None

    @property
    def allowed(self) -> int: ...


def open_speculator(setting: SpeculationName) -> "Speculator | None":
    """None if it is not wanted, or where the extension with the suffix automaton is missing."""
    if setting == "off":
        return None
    try:
        import_module("tokenworks.inference._kernels")
    except ImportError:
        return None
    return Speculator()


class Speculator:
    """One for an engine."""

    def __init__(self) -> None:
        self._common = Acceptance(KINDS)
        self._memories: OrderedDict[str, TenantMemory] = OrderedDict()  # longest unused first

    def drafts(
        self,
        sequences: Sequence[Drafted],
        rows: int,
        most: int,
        seconds: Callable[[int], float],
    ) -> list[list[int]]:
        """The tokens to verify for each sequence of a batch.

        `rows`, `most`, `seconds`: see `choose_lengths`.
        """
        worth = cheapest_row(rows, most, seconds)
        if worth >= 1.0:
            return [[] for _ in sequences]
        drafts = [self._draft(sequence, worth) for sequence in sequences]
        lengths = choose_lengths([draft.chances for draft in drafts], rows, most, seconds)
        return [draft.tokens[:length] for draft, length in zip(drafts, lengths, strict=True)]

    def remember(self, tenant: str, answer: list[int]) -> None:
        """An answer is complete: later ones may say the same."""
        self._memory(tenant).answers.remember(answer)

    def _draft(self, sequence: Drafted, least_chance: float) -> Draft:
        if sequence.drafting is None:
            memory = self._memory(sequence.tenant)
            sequence.drafting = Drafting(sequence.tokens, memory, self._common)
        return sequence.drafting.draft(min(sequence.allowed - 1, MOST_DRAFT_TOKENS), least_chance)

    def _memory(self, tenant: str) -> TenantMemory:
        memory = self._memories.get(tenant)
        if memory is None:
            memory = self._memories[tenant] = TenantMemory()
            if len(self._memories) > _MOST_TENANTS:
                self._memories.popitem(last=False)
        self._memories.move_to_end(tenant)
        return memory

"""Chooses each forward's drafts, and keeps what each tenant's answers taught."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Protocol

from tokenworks.inference.settings import SpeculationName
from tokenworks.inference.speculation.acceptance import Acceptance
from tokenworks.inference.speculation.draft_model import DraftModel, Followed
from tokenworks.inference.speculation.drafting import Draft, Drafting, TenantMemory
from tokenworks.inference.speculation.lengths import (
    cheapest_row,
    choose_lengths,
    choose_steps,
    rate_of,
)
from tokenworks.inference.speculation.sources import KINDS, MODEL_KINDS

MOST_DRAFT_TOKENS = 24
_MOST_TENANTS = 32
"""Of each about 2 MB are remembered, once its answers fill both halves."""


_MODEL_RIGHT = 0.7
"""What a draft model gets right, before any of its guesses was checked."""
_MODEL_AT_BEST = 0.95
"""What one gets right that could not be better."""
_PAUSES = (64, 4096)
"""A draft model that would pay if it were right is asked for one guess after so many forwards, as
texts change; each time that it still does not pay, twice as many, up to the second number."""

_LOOKS = 16
"""Forwards in a row without a draft worth its rows, after which few are looked for."""
_RESTS = (4, 32)
"""So many forwards then go by before the next look; each time that it finds none, twice as many, up
to the second number: looking costs 10 us a text, 1 to 2 % of a forward of eight."""
_FEW_TEXTS = 3
"""So many texts are always looked at: a row is cheap beside them, and so is a look."""


class Drafted(Followed, Protocol):
    """What is to be known of a sequence."""

    drafting: Drafting | None


def open_speculator(
    setting: SpeculationName, model: DraftModel | None = None
) -> "Speculator | None":
    """None if it is not wanted, or where the extension with the suffix automaton is missing."""
    if setting == "off":
        return None
    try:
        import_module("tokenworks.inference._kernels")
    except ImportError:
        return None
    return Speculator(model)


class Speculator:
    """One for an engine. `guessing_s`: what the draft model took for the last drafts."""

    def __init__(self, model: DraftModel | None = None) -> None:
        self.guessing_s = 0.0
        self._model = model
        self._pause = self._paused = 0
        self._in_vain = self._rest = self._rested = 0
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
        self.guessing_s = 0.0
        worth = cheapest_row(rows, most, seconds)
        if worth >= 1.0:
            return [[] for _ in sequences]
        if self._rests(len(sequences)):
            return [[] for _ in sequences]
        drafts = [self._draft(sequence, worth) for sequence in sequences]
        lengths = choose_lengths([draft.chances for draft in drafts], rows, most, seconds)
        self._found(any(lengths))
        if self._model is not None:
            rate = rate_of([draft.chances for draft in drafts], lengths, rows, seconds)
            if self._suggest(self._model, sequences, rows, most, seconds, rate, worth):
                drafts = [self._draft(sequence, worth) for sequence in sequences]
                lengths = choose_lengths([draft.chances for draft in drafts], rows, most, seconds)
        return [draft.tokens[:length] for draft, length in zip(drafts, lengths, strict=True)]

    def _rests(self, texts: int) -> bool:
        """Whether this forward goes by without a look. A draft model is asked each time: it has
        pauses of its own."""
        if texts <= _FEW_TEXTS or self._model is not None or self._rested >= self._rest:
            return False
        self._rested += 1
        return True

    def _found(self, anything: bool) -> None:
        self._in_vain = 0 if anything else self._in_vain + 1
        self._rested = 0
        if self._in_vain < _LOOKS:
            self._rest = 0
        else:
            self._rest = min(max(_RESTS[0], 2 * self._rest), _RESTS[1])

    def remember(self, tenant: str, answer: list[int]) -> None:
        """An answer is complete: later ones may say the same."""
        self._memory(tenant).answers.remember(answer)

    def _suggest(
        self,
        model: DraftModel,
        sequences: Sequence[Drafted],
        rows: int,
        most: int,
        seconds: Callable[[int], float],
        rate: float,
        worth: float,
    ) -> bool:
        """Have the draft model guess, where that makes tokens come faster than `rate`. Whether it
        did."""
        model.follow(sequences)
        steps_if = partial(
            choose_steps,
            texts=len(sequences),
            rows=rows,
            most=min(most, len(sequences) * MOST_DRAFT_TOKENS),
            seconds=seconds,
            guessing=model.seconds(sequences),
            rate=rate,
        )
        steps = steps_if(self._common.share(MODEL_KINDS, _MODEL_RIGHT))
        if steps:
            self._pause = self._paused = 0
            steps = steps if model.measured else 1
        else:
            self._paused += 1
            if self._paused <= self._pause or not steps_if(_MODEL_AT_BEST):
                return False
            first, longest = _PAUSES
            self._pause, self._paused = min(max(first, 2 * self._pause), longest), 0
            sequences, steps = sequences[:1], 1
        guesses, self.guessing_s = model.guesses(sequences, steps, self._common.chance, worth)
        for sequence, guessed in zip(sequences, guesses, strict=True):
            self._following(sequence).suggest(guessed)
        return True

    def _draft(self, sequence: Drafted, least_chance: float) -> Draft:
        most = min(sequence.allowed - 1, MOST_DRAFT_TOKENS)
        return self._following(sequence).draft(most, least_chance)

    def _following(self, sequence: Drafted) -> Drafting:
        if sequence.drafting is None:
            memory = self._memory(sequence.tenant)
            sequence.drafting = Drafting(sequence.tokens, memory, self._common)
        return sequence.drafting

    def _memory(self, tenant: str) -> TenantMemory:
        memory = self._memories.get(tenant)
        if memory is None:
            memory = self._memories[tenant] = TenantMemory()
            if len(self._memories) > _MOST_TENANTS:
                self._memories.popitem(last=False)
        self._memories.move_to_end(tenant)
        return memory

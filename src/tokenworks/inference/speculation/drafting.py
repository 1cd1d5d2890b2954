"""One text's drafts: the likeliest guess of all sources, then the likeliest after it, and so on."""

from dataclasses import dataclass, field
from typing import Any

from tokenworks.inference.speculation.acceptance import Acceptance
from tokenworks.inference.speculation.sources import (
    KINDS,
    EarlierAnswers,
    Guess,
    OwnText,
    Source,
    Successors,
    Suggested,
)

MOST_INDEXED_TOKENS = 1 << 15
"""Of a long prompt the last that many tokens are searched for what was said before."""

_LONGEST_END = 24
"""Tokens at the end of a text that say where it stands: longer ends promise no more."""

_OWN, _, _SUCCESSORS, _SUGGESTED = range(4)
"""The sources' numbers."""


class TenantMemory:
    """What one tenant's texts taught. It is never asked for another tenant's drafts: what is
    guessed, and so how fast an answer comes, would tell what others were told."""

    def __init__(self, most_tokens: int = 1 << 13) -> None:
        self.answers = EarlierAnswers(most_tokens)
        self.successors = Successors(most_pairs=1 << 14)


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may come next. `chances[i]`: that token i and all before it are right."""

    tokens: list[int] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)


class Drafting:
    """Follows one text, draws up its drafts, and learns how often its guesses are right.

    A text of which nobody wants a draft is only noted, to be caught up with: following it would
    cost more than all else that is done for a token.
    """

    def __init__(self, prompt: list[int], memory: TenantMemory, common: Acceptance) -> None:
        self._memory = memory
        self._acceptance = Acceptance(KINDS, common)
        self._own = OwnText()
        self._suggested = Suggested()
        self._sources: tuple[Source[Any], ...] = (
            *(self._own, memory.answers, memory.successors),
            self._suggested,
        )
        self._places: list[Any] = [source.start for source in self._sources]
        self._own.read(prompt[-MOST_INDEXED_TOKENS:])
        self._stand(prompt[-2:])
        self._unread: list[int] = []
        self._guesses: list[Guess | None] | None = None  # None: not made for what comes next
        self._drafted = 0  # tokens of the last draft that may yet be read

    def read(self, token: int, likeliest: int) -> None:
        """The text goes on with `token`; the model found `likeliest` the likeliest there."""
        if self._guesses is None:
            self._unread.append(token)
            return
        for guess in self._guesses:
            if guess is not None:
                self._acceptance.record(guess[1], guess[0] == token)
        self._memory.successors.remember(self._places[_SUCCESSORS], likeliest)
        self._unread.append(token)
        self._guesses = None
        if self._drafted:
            # The token may be one of a draft; what is guessed after it is learnt from as well.
            self._drafted -= 1
            self._catch_up()

    def suggest(self, guesses: list[Guess]) -> None:
        """What a draft model says comes next."""
        known = self._catch_up()
        self._places[_SUGGESTED] = self._suggested.suggest(guesses)
        known[_SUGGESTED] = self._suggested.guess(self._places[_SUGGESTED])

    def draft(self, most: int, least_chance: float) -> Draft:
        """At most that many tokens, ending where the chance of all of them falls below."""
        draft = Draft()
        places, guesses, chance = self._places, self._catch_up(), 1.0
        while len(draft.tokens) < most:
            best, token = max(
                (
                    (self._acceptance.chance(guess[1]), guess[0])
                    for guess in guesses
                    if guess is not None
                ),
                default=(0.0, -1),
            )
            chance *= best
            if chance < least_chance or token < 0:
                break
            draft.tokens.append(token)
            draft.chances.append(chance)
            places = [
                source.follow(place, token)
                for source, place in zip(self._sources, places, strict=True)
            ]
            guesses = self._guess(places)
        self._drafted = len(draft.tokens)
        return draft

    def _catch_up(self) -> list[Guess | None]:
        """Read what was only noted; the guesses at what comes next."""
        if self._guesses is None:
            unread, self._unread = self._unread, []
            self._own.read(unread)
            if len(unread) > _LONGEST_END:
                self._places = [source.start for source in self._sources]
            self._stand(unread[-_LONGEST_END:])
            self._guesses = self._guess(self._places)
        return self._guesses

    def _stand(self, tokens: list[int]) -> None:
        """Bring the places up to a text that ends with these further tokens."""
        for token in tokens:
            self._places = [
                source.follow(place, token)
                for source, place in zip(self._sources, self._places, strict=True)
            ]
        self._places[_OWN] = self._own.place

    def _guess(self, places: list[Any]) -> list[Guess | None]:
        return [source.guess(place) for source, place in zip(self._sources, places, strict=True)]

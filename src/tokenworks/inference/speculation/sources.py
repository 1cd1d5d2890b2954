"""Where guesses come from: what a text said before, what earlier answers said, what the model
itself found likeliest after the same tokens, and what a draft model says where there is one.

A source answers for a *place*: how a text stands in its memory. Places are values, so a guess can
be followed by a guess without reading it. (The sources: suffix automata as in SAM decoding, Hu et
al. 2024; counts over earlier outputs as in SuffixDecoding, Oliaro et al. 2025; the model's own
likeliest successors as in token recycling, Luo et al. 2024.)
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from tokenworks.inference._kernels import Suffixes

Place = TypeVar("Place")

Guess = tuple[int, int]
"""A token and the kind of guess, by which its chance is known."""

_LENGTHS = 6  # 1, 2, 3 to 4, 5 to 8, 9 to 16 and longer beginnings in common
_SHARES = 3  # of what followed: less than half, more, all
_SUFFIX_KINDS = _LENGTHS * _SHARES
_RECYCLED = 2  # after the same two tokens, after the same one
_FIRST_OF_MODEL = 2 * _SUFFIX_KINDS + _RECYCLED
MODEL_KINDS = range(_FIRST_OF_MODEL, _FIRST_OF_MODEL + 8)
"""A draft model's guesses, by the share of probability that it gives them."""

KINDS = MODEL_KINDS.stop


class Source(Protocol[Place]):
    @property
    def start(self) -> Place:
        """The place of a text of which nothing was read."""
        ...

    def guess(self, place: Place) -> Guess | None:
        """What comes next at this place, if that was ever seen."""
        ...

    def follow(self, place: Place, token: int) -> Place:
        """The place after one more token."""
        ...


def _suffixes() -> "Suffixes":
    from tokenworks.inference._kernels import Suffixes  # may be missing: see `open_speculator`

    return Suffixes()


def _suffix_guess(suffixes: "Suffixes", place: tuple[int, int], first_kind: int) -> Guess | None:
    found = suffixes.guess(*place)
    if found is None:
        return None
    token, share = found
    length = min((place[1] - 1).bit_length(), _LENGTHS - 1)
    return token, first_kind + length * _SHARES + (share >= 0.5) + (share >= 1.0)


class OwnText:
    """The text of one sequence, prompt and answer."""

    start = (0, 0)

    def __init__(self) -> None:
        self._suffixes = _suffixes()

    @property
    def place(self) -> tuple[int, int]:
        """Where the text stands: its longest end that it had before."""
        return self._suffixes.tail()

    def read(self, tokens: list[int]) -> None:
        self._suffixes.add(tokens)

    def guess(self, place: tuple[int, int]) -> Guess | None:
        return _suffix_guess(self._suffixes, place, 0)

    def follow(self, place: tuple[int, int], token: int) -> tuple[int, int]:
        return self._suffixes.follow(*place, token)


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A place in both halves of what is remembered."""

    half: int
    newer: tuple[int, int] = (0, 0)
    older: tuple[int, int] = (0, 0)


class EarlierAnswers:
    """The answers of one tenant, the latest `most_tokens` to twice as many.

    In two halves, so that forgetting is dropping one of them.
    """

    def __init__(self, most_tokens: int) -> None:
        self._most = most_tokens
        self._half = 0
        self._newer, self._older = _suffixes(), _suffixes()

    @property
    def start(self) -> _Remembered:
        return _Remembered(self._half)

    def remember(self, answer: list[int]) -> None:
        if self._newer.size + len(answer) > self._most:
            self._half += 1
            self._newer, self._older = _suffixes(), self._newer
        self._newer.add(answer[: self._most])
        self._newer.end()

    def guess(self, place: _Remembered) -> Guess | None:
        place = self._now(place)
        if place.newer[1] >= place.older[1]:
            halves = (self._newer, place.newer), (self._older, place.older)
        else:
            halves = (self._older, place.older), (self._newer, place.newer)
        for suffixes, own in halves:
            if guess := _suffix_guess(suffixes, own, _SUFFIX_KINDS):
                return guess
        return None

    def follow(self, place: _Remembered, token: int) -> _Remembered:
        place = self._now(place)
        return _Remembered(
            self._half,
            self._newer.follow(*place.newer, token),
            self._older.follow(*place.older, token),
        )

    def _now(self, place: _Remembered) -> _Remembered:
        """The place as the halves are now: what was the newer may be the older, or gone."""
        if place.half == self._half:
            return place
        kept = place.newer if place.half == self._half - 1 else (0, 0)
        return _Remembered(self._half, older=kept)


class Successors:
    """What the model found likeliest after a token, and after two, in any text of one tenant."""

    start = (-1, -1)

    def __init__(self, most_pairs: int) -> None:
        self._most = most_pairs
        self._after_two: dict[tuple[int, int], int] = {}
        self._after_one: dict[int, int] = {}

    def remember(self, place: tuple[int, int], likeliest: int) -> None:
        """The model found `likeliest` after these two tokens."""
        if len(self._after_two) >= self._most:
            self._after_two.clear()
        self._after_two[place] = likeliest
        self._after_one[place[1]] = likeliest

    def guess(self, place: tuple[int, int]) -> Guess | None:
        token = self._after_two.get(place)
        if token is not None:
            return token, 2 * _SUFFIX_KINDS
        token = self._after_one.get(place[1])
        return None if token is None else (token, 2 * _SUFFIX_KINDS + 1)

    def follow(self, place: tuple[int, int], token: int) -> tuple[int, int]:
        return place[1], token


class Suggested:
    """What a draft model says comes after the text. A place is the number of the next guess; it is
    none of them once the text goes on otherwise."""

    start = -1

    def __init__(self) -> None:
        self._guesses: list[Guess] = []

    def suggest(self, guesses: list[Guess]) -> int:
        """The place of a text that these guesses follow."""
        self._guesses = guesses
        return 0

    def guess(self, place: int) -> Guess | None:
        return self._guesses[place] if 0 <= place < len(self._guesses) else None

    def follow(self, place: int, token: int) -> int:
        guess = self.guess(place)
        return place + 1 if guess is not None and guess[0] == token else -1

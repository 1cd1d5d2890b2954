"""What of a second backend's answer is new, when a first one broke off in mid-answer. Pure."""

from collections.abc import Sequence
from typing import Final, Protocol

SHORTEST_REPEAT: Final = 24
"""Characters that a continuation must repeat before it counts as a repeat: people do write the same
word twice, and a text that was cut after "ha" may well go on with "ha"."""

SHORTEST_WHOLE: Final = 6
"""The same of an answer that was cut off when it had less than that: all of it comes again."""

LOOP_CUE: Final = 8
"""Characters that an answer said at the same distance before, from which it counts as a loop."""

LONGEST_REPEAT: Final = 4000
"""Characters at the end of what was sent in which a repeat is looked for."""


class Diverged(Exception):  # noqa: N818  (reads as the fact it states)
    """The second answer is another one than the first: it cannot be joined to it."""


class Joint(Protocol):
    """Takes the second answer's text piece by piece; returns what of it is new."""

    def feed(self, text: str) -> str: ...

    def end(self) -> str:
        """What was held back, once the answer is complete. Raises Diverged."""
        ...


class Replay:
    """For an answer that is a function of its request: the second is the first from its beginning.

    Raises Diverged as soon as it is not.
    """

    def __init__(self, sent: str) -> None:
        self._rest = sent

    def feed(self, text: str) -> str:
        known = len(self._rest)
        if text[:known] != self._rest[: len(text)]:
            raise Diverged
        self._rest = self._rest[len(text) :]
        return text[known:]

    def end(self) -> str:
        if self._rest:
            raise Diverged  # it ended earlier than the first one was cut
        return ""


class Continuation:
    """For an answer that goes on from what was sent, and may repeat some of its end.

    Held back is only what may turn out to be such a repeat. An answer in a loop is taken to go on
    in it: that is none. `blank` is the white space at the end of what was sent that the backend was
    not shown, as some do not take it: it comes again.
    """

    def __init__(self, sent: str, blank: str = "") -> None:
        self._sent = sent
        self._blank = blank
        self._held = ""
        self._open = True

    def feed(self, text: str) -> str:
        if not self._open:
            return text
        self._held += text
        return self._decide(ended=False)

    def end(self) -> str:
        return self._decide(ended=True) if self._open else ""

    def _decide(self, *, ended: bool) -> str:
        if self._blank and not self._past_blank(ended):
            return ""
        held = self._held
        lengths = self._lengths()
        undecided = not ended and any(
            self._sent.startswith(held, len(self._sent) - length)
            for length in lengths
            if length > len(held)
        )
        if undecided:
            return ""
        self._open = False
        repeated = next(
            (length for length in reversed(lengths) if self._repeats(held[:length], length)), 0
        )
        self._held = ""
        return held if repeated and self._is_loop(repeated) else held[repeated:]

    def _lengths(self) -> Sequence[int]:
        """How much of what was sent may come again, in ascending order: all of it, or its end."""
        whole = len(self._sent)
        ends = range(SHORTEST_REPEAT, min(whole, LONGEST_REPEAT) + 1)
        return [*ends, whole] if whole >= SHORTEST_WHOLE and whole not in ends else ends

    def _repeats(self, begun: str, length: int) -> bool:
        return len(begun) == length and self._sent.endswith(begun)

    def _is_loop(self, length: int) -> bool:
        """Whether the answer says so much over and over: then saying it once more goes on."""
        last, before = self._sent[-length:], self._sent[:-length]
        return before.endswith(last[-LOOP_CUE:]) or any(
            last.startswith(last[period:]) for period in range(1, length // 2 + 1)
        )

    def _past_blank(self, ended: bool) -> bool:
        """Take the white space that comes again off the beginning; False while more may come."""
        held, blank = self._held, self._blank
        if len(held) < len(blank) and blank.startswith(held) and not ended:
            return False
        self._held = held.removeprefix(blank)
        self._blank = ""
        return bool(self._held) or ended

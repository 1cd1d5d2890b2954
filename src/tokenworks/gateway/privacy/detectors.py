"""Finds personal data and credentials in a text, without a model, in one pass of each detector.

Cheap questions go first (is there a digit, an @ ...): most sentences need nothing more. All
patterns are bounded or take each character once, so time grows with the text and no faster. A long
text is looked through a window at a time, so that no single call keeps other threads waiting.
"""

import re
from bisect import bisect
from collections.abc import Iterator
from typing import Final

from tokenworks.gateway.privacy.addresses import addresses
from tokenworks.gateway.privacy.credentials import credentials, pem_blocks
from tokenworks.gateway.privacy.dates import dates_in_words
from tokenworks.gateway.privacy.entities import PLAIN, Found
from tokenworks.gateway.privacy.folding import fold
from tokenworks.gateway.privacy.numbers import numbers
from tokenworks.gateway.privacy.passwords import passwords
from tokenworks.gateway.privacy.placeholders import PLACEHOLDER
from tokenworks.gateway.privacy.words import words

_DIGIT: Final = re.compile(r"[0-9]")


WINDOW: Final = 1 << 16
"""Characters of a long text that are looked through at a time."""

BEFORE: Final = 1 << 10
AFTER: Final = 1 << 14
"""Characters around them that are looked at too: more than what findings need before them, and than
any finding has, but for private keys."""


def find(text: str) -> tuple[Found, ...]:
    """Everything found, in the order of the text.

    Findings do not overlap, but for URLs and dates, which may have others within. A placeholder of
    ours is nothing to find.
    """
    return tuple(findings(text))


def findings(text: str) -> Iterator[Found]:
    """As `find`, one after the other: of a long text, few are in memory at a time."""
    if len(text) <= WINDOW + AFTER:
        yield from _find(text)
        return
    whole = list(pem_blocks(text))
    until = 0  # up to where a finding reaches that began in a window before
    for begin in range(0, len(text), WINDOW):
        end, first = begin + WINDOW, max(0, begin - BEFORE)
        found = [_moved(one, first) for one in _find(text[first : end + AFTER])] + whole
        for one in sorted((x for x in found if begin <= x.start < end), key=_in_order):
            if one.kind in PLAIN or one.start >= until:
                yield one
            if one.kind not in PLAIN:
                until = max(until, one.end)


def _moved(one: Found, by: int) -> Found:
    return one._replace(start=one.start + by, end=one.end + by)


def _find(text: str) -> tuple[Found, ...]:
    folded, places = fold(text)
    found = [*addresses(folded), *credentials(folded), *passwords(folded)]
    if _DIGIT.search(folded):
        found += numbers(folded)
        found += words(folded)
        found += dates_in_words(folded)
    if not found:
        return ()
    if places is not None:
        found = [
            one._replace(start=places[one.start], end=places[one.end - 1] + 1) for one in found
        ]
    return tuple(sorted(_apart(found, text), key=_in_order))


def _in_order(one: Found) -> tuple[int, int]:
    return one.start, -one.end


def _apart(found: list[Found], text: str) -> list[Found]:
    """Of those that overlap, the longest; of equal ones, the surest. What stands before the @ of a
    URL is no part of an e-mail address."""
    taken: list[Found] = []
    ends = [Found("", *match.span(), 1.0) for match in PLACEHOLDER.finditer(text)]
    strong = [one for one in found if one.kind not in PLAIN]
    strong.sort(key=lambda x: (x.kind != "url_credentials", x.start - x.end, -x.score))
    kept = _Spans(ends)
    for one in strong:
        if kept.add(one):
            taken.append(one)
    within = _Spans(ends)
    for one in sorted((x for x in found if x.kind in PLAIN), key=lambda x: x.start - x.end):
        if not kept.covers(one) and within.add(one):
            taken.append(one)
    return taken


class _Spans:
    """Spans of which none overlaps another, kept in order."""

    def __init__(self, spans: list[Found]) -> None:
        self._starts = [one.start for one in spans]
        self._ends = [one.end for one in spans]

    def add(self, one: Found) -> bool:
        """Whether there was room for it."""
        at = bisect(self._starts, one.start)
        if at and self._ends[at - 1] > one.start:
            return False
        if at < len(self._starts) and self._starts[at] < one.end:
            return False
        self._starts.insert(at, one.start)
        self._ends.insert(at, one.end)
        return True

    def covers(self, one: Found) -> bool:
        """Whether one of them has all of it within."""
        at = bisect(self._starts, one.start)
        return bool(at) and self._ends[at - 1] >= one.end

"""Finds personal data and credentials in a text, without a model, in one pass of each detector.

Cheap questions go first (is there a digit, an @ ...): most sentences need nothing more. All
patterns are bounded or take each character once, so time grows with the text and no faster.
"""

import re
from bisect import bisect
from typing import Final

from tokenworks.gateway.privacy.addresses import addresses
from tokenworks.gateway.privacy.credentials import credentials
from tokenworks.gateway.privacy.dates import dates_in_words
from tokenworks.gateway.privacy.entities import PLAIN, Found
from tokenworks.gateway.privacy.folding import fold
from tokenworks.gateway.privacy.numbers import numbers
from tokenworks.gateway.privacy.passwords import passwords
from tokenworks.gateway.privacy.placeholders import PLACEHOLDER
from tokenworks.gateway.privacy.words import words

_DIGIT: Final = re.compile(r"[0-9]")


def find(text: str) -> tuple[Found, ...]:
    """Everything found, in the order of the text.

    Findings do not overlap, but for URLs and dates, which may have others within. A placeholder of
    ours is nothing to find.
    """
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
    return tuple(sorted(_apart(found, text), key=lambda one: (one.start, -one.end)))


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

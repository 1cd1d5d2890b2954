"""Dates of which the year is said. The day of the week or a year alone tells nothing of anybody."""

import re
from collections.abc import Iterator
from typing import Final

from tokenworks.gateway.privacy.entities import Found

_TIME: Final = r"(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?: ?Z|[+-]\d{2}:?\d{2})?)?"
_MONTH: Final = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?"
    r"|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
)
_DAY: Final = r"(?:3[01]|[12]\d|0?[1-9])"
_NUMBER_OF_MONTH: Final = r"(?:1[0-2]|0?[1-9])"
_IN_DIGITS: Final = re.compile(
    rf"(?:\d{{4}}([-/.]){_NUMBER_OF_MONTH}\1{_DAY}{_TIME}"
    rf"|(?:{_NUMBER_OF_MONTH}([-/.]){_DAY}|{_DAY}([-/.]){_NUMBER_OF_MONTH})(?:\2|\3)"
    rf"(?:\d{{4}}{_TIME}|\d{{2}}))(?!\d|[-/.]\d)"
)
_YEAR: Final = re.compile(r"(?:19|20)(?<=[ ,-]..)\d\d(?!\d)")
_BEFORE_YEAR: Final = re.compile(
    rf"(?<![A-Za-z0-9])(?:{_DAY}(?:st|nd|rd|th)?(?: of)?[- ])?{_MONTH}\.?[- ]"
    rf"(?:{_DAY}(?:st|nd|rd|th)?(?:, ?| ))?$",
    re.IGNORECASE,
)
_LONGEST_BEFORE: Final = len("31st of September. 31st, ")
_CHINESE: Final = re.compile(rf"(?<!\d)\d{{4}}年{_NUMBER_OF_MONTH}月{_DAY}[日号]")


def date_at(text: str, at: int) -> int | None:
    """The end of a date in digits that begins there."""
    match = _IN_DIGITS.match(text, at)
    return match.end() if match else None


def dates_in_words(text: str) -> Iterator[Found]:
    """Those that name their month in English, or year, month and day in Chinese."""
    if "年" in text:
        for match in _CHINESE.finditer(text):
            yield Found("date", match.start(), match.end(), 0.8)
    for year in _YEAR.finditer(text):
        at = year.start()
        before = _BEFORE_YEAR.search(text, max(0, at - _LONGEST_BEFORE), at)
        if before is not None:
            yield Found("date", before.start(), year.end(), 0.8)

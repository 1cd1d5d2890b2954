"""Telephone numbers: by their shape, by the world's numbering plans, or by what goes before them.

The plans (phonenumberslite) are asked only about numbers with a country's code; national numbers
are known by how people write them, since whose plan holds is nowhere said.
"""

import re
from itertools import pairwise
from typing import Final

_EXTENSION: Final = r"(?:(?: ?(?:x|ext\.?|extension|转|#) ?)\d{1,6})?(?![0-9]|-[0-9])"
_SHAPES: Final = re.compile(
    # China: mobile, with or without 86; landline with its area; service numbers
    r"(?P<number>\(?(?:(?:\+|00)?86\)?[- ]{0,2})?1[3-9]\d"
    r"(?:[- ]?\d{4}[- ]?\d{4}|[- ]\d{3}[- ]\d{5})"
    r"|(?:(?:\+|00)86[- ]{0,2})?\(?0\d{2,3}\)?-\d{7,8}|[48]00-(?:\d{3}-\d{4}|\d{4}-\d{3})"
    # North America: ten digits, the last seven apart
    r"|(?:(?:\+|00)?1[-. ]?)?(?:\([2-9]\d\d\)[-. ]{0,2}|[2-9]\d\d[-. /])\d{3}[-. ]\d{4}"
    # a trunk prefix and several groups, as in most of Europe, Asia and Australia
    r"|\(?0\d{1,4}\)?(?P<between>[-. /])(?:\d{2,4}(?P=between)){1,3}\d{2,5}"
    r"|\(0\d{1,4}\) ?\d{2,4}[-. ]?\d{3,5})" + _EXTENSION
)
_ANY: Final = re.compile(
    r"[+(]{0,2}\d+(?:[-. /()]{1,2}\d+){0,10}(?: ?(?:x|ext\.?|转|#) ?\d{1,6}(?![0-9]))?"
)
_AMOUNT: Final = re.compile(
    r"\d+[./]\d+(?![\d]|[-. /]\d)|\d{13}|[\d.]+ ?[元米人个次万亿年月日件份%℃$€£]"
)
"""Fractions, times in milliseconds and counts of something: never a telephone number."""

_LAST_GROUP: Final = re.compile(r"[-. /()]{1,2}\d+$")
_EXTENSION_AT_END: Final = re.compile(r"(?: ?(?:x|ext\.?|转|#) ?)\d{1,6}$")
FEWEST: Final = 7
LEAST_NATIONAL: Final = 9
MOST: Final = 15
"""Digits: within an area, within a country with its prefix, and of any number (ITU-T E.164)."""


def phone(text: str, at: int, subject: str) -> tuple[int, float] | None:
    """The end of the telephone number from `at` on, and how sure that is."""
    if at > 1 and text[at - 1] in "-./" and text[at - 2].isdigit():
        return None  # the rest of something longer
    shape = _SHAPES.match(text, at)
    if shape is not None and not (subject == "other" and shape["number"].isdigit()):
        digits = sum(map(str.isdigit, shape["number"]))
        fewest = LEAST_NATIONAL if shape["number"][0] in "(0" else FEWEST
        if fewest <= digits <= MOST and not _is_counting(shape["number"]):
            return shape.end(), 0.9 if subject == "phone" else 0.7
    international = text[at] == "+" or text.startswith(("(+", "00"), at)
    if not international and subject != "phone":
        return None
    return _of_groups(text, at, international, subject == "phone")


def _of_groups(text: str, at: int, international: bool, told: bool) -> tuple[int, float] | None:
    """As many of the groups of digits as make a number; `told`: the text says there is one."""
    match = _ANY.match(text, at)
    written = match[0] if match else ""
    while written:
        number = _EXTENSION_AT_END.sub("", written)
        digits = sum(map(str.isdigit, number))
        if digits < FEWEST:
            return None
        if digits <= MOST:
            if international and _is_possible(number):
                return at + len(written), 0.9 if told else 0.7
            if told and not _AMOUNT.match(text, at):
                return at + len(written), 0.6
        shorter = _LAST_GROUP.sub("", number)
        written = shorter if shorter != written else ""
    return None


def _is_possible(number: str) -> bool:
    """Whether it begins with a country's code and is as long as numbers there are."""
    import phonenumbers

    begun = number.replace("(0)", "").lstrip("(")
    begun = f"+{begun[2:]}" if begun.startswith("00") else begun
    try:
        return bool(phonenumbers.is_possible_number(phonenumbers.parse(begun)))
    except phonenumbers.NumberParseException:
        return False


def _is_counting(written: str) -> bool:
    """`01 02 03 04`: groups that go up by one are no number."""
    groups = [int(group) for group in re.findall(r"\d+", written)]
    return len(groups) > 2 and all(b - a == 1 for a, b in pairwise(groups))

"""One spelling for characters that look alike, so that patterns need to know one only.

Full-width forms, digits of other scripts, dashes and spaces become their ASCII counterparts; signs
that nobody sees are left out, of what stands between groups of digits all but one, and all of it
where each digit stands alone. Commas and the like stay: as they are, they separate words.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

_FULL_WIDTH: Final = {
    code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if chr(code - 0xFEE0) not in ",;!?"
}
_ZEROS: Final = (
    *(0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6),
    *(0x0D66, 0x0DE6, 0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0),
    *(0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0),
    *(0xAA50, 0xABF0, 0x104A0, 0x10D30, 0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450),
    *(0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0, 0x11950, 0x11C50, 0x11D50, 0x11DA0, 0x16A60),
    *(0x16AC0, 0x16B50, *range(0x1D7CE, 0x1D7F7, 10), 0x1E140, 0x1E2F0, 0x1E950, 0x1FBF0),
)
"""Of every script that Unicode has decimal digits of, beside ASCII's and the full-width ones."""

_DIGITS: Final = {zero + value: ord("0") + value for zero in _ZEROS for value in range(10)}
_DASHES: Final = dict.fromkeys((*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63), ord("-"))
_SPACES: Final = dict.fromkeys((0x00A0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), ord(" "))
_LONGER_WHEN_SMALL: Final = {0x0130: ord("I")}
"""The one letter whose small form is two characters: places in a text in small letters hold."""

_TABLE: Final = {**_FULL_WIDTH, **_DIGITS, **_DASHES, **_SPACES, **_LONGER_WHEN_SMALL}
_BEYOND_ASCII: Final = re.compile("[^\\x00-\\x7f]+")
_UNSEEN: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20e3"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
"""What Unicode calls ignorable, and the box around a digit."""

_APART: Final = ("  ", "- ", " -")
_BETWEEN: Final = re.compile(r"[ -](?<=[0-9].)[ -]{1,2}(?=[0-9])")

_ONE_BY_ONE: Final = re.compile(
    r"[0-9](?:(?<![0-9][ -].)(?<![0-9].)([ -])[0-9](?:\1[0-9]){9,17})(?![0-9]|\1[0-9])"
)
"""Digits that stand alone each, as many as a number has that is looked for so."""


def fold(text: str) -> tuple[str, Sequence[int] | None]:
    """The folded text, and where each of its characters stands in `text`; None: at its own index.

    The places have one more entry than the folded text has characters: the end.
    """
    left_out: set[int] = set()
    if not text.isascii():
        text = _BEYOND_ASCII.sub(lambda run: run[0].translate(_TABLE), text)
        left_out.update(sign.start() for sign in _UNSEEN.finditer(text))
    if any(apart in text for apart in _APART):
        for run in _BETWEEN.finditer(text):
            left_out.update(_surplus(run))
    for run in _ONE_BY_ONE.finditer(text):
        left_out.update(range(run.start() + 1, run.end(), 2))
    if not left_out:
        return text, None
    places = [index for index in range(len(text)) if index not in left_out]
    return "".join(text[index] for index in places), [*places, len(text)]


def _surplus(run: re.Match[str]) -> Iterator[int]:
    """All but one of the signs between two groups of digits; none where dashes are a drawing."""
    dashes = run[0].count("-")
    kept = run.start() + (run[0].index("-") if dashes else 0)
    return (at for at in range(*run.span()) if at != kept and dashes < 2)

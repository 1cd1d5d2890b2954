"""One spelling for characters that look alike, so that patterns need to know one only.

Full-width forms, digits of other scripts, dashes and spaces become their ASCII counterparts; signs
that nobody sees are left out. Commas and the like stay: as they are, they separate words.
"""

import re
from collections.abc import Sequence
from typing import Final

_FULL_WIDTH: Final = {
    code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if chr(code - 0xFEE0) not in ",;!?"
}
_ZEROS: Final = (0x0660, 0x06F0, 0x0966, 0x09E6, 0x0E50, *range(0x1D7CE, 0x1D7F7, 10))
_DIGITS: Final = {zero + value: ord("0") + value for zero in _ZEROS for value in range(10)}
_DASHES: Final = dict.fromkeys((*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63), ord("-"))
_SPACES: Final = dict.fromkeys((0x00A0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), ord(" "))
_LONGER_WHEN_SMALL: Final = {0x0130: ord("I")}
"""The one letter whose small form is two characters: places in a text in small letters hold."""

_TABLE: Final = {**_FULL_WIDTH, **_DIGITS, **_DASHES, **_SPACES, **_LONGER_WHEN_SMALL}
_FOLDABLE: Final = re.compile(f"[{''.join(map(re.escape, map(chr, _TABLE)))}]+")
_UNSEEN: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


def fold(text: str) -> tuple[str, Sequence[int] | None]:
    """The folded text, and where each of its characters stands in `text`; None: at its own index.

    The places have one more entry than the folded text has characters: the end.
    """
    if text.isascii():
        return text, None
    folded = _FOLDABLE.sub(lambda run: run[0].translate(_TABLE), text)
    if not _UNSEEN.search(folded):
        return folded, None
    places = [index for index, letter in enumerate(folded) if not _UNSEEN.match(letter)]
    return "".join(folded[index] for index in places), [*places, len(text)]

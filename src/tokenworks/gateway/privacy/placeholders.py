"""How placeholders are written: `<EMAIL_1>`. Angle brackets and capitals are what texts for models
use for a gap that has a name; models repeat them letter by letter.
"""

import re
from collections.abc import Iterator
from typing import Final

from tokenworks.gateway.privacy.entities import KINDS

_NAMES: Final = "|".join(sorted((kind.upper() for kind in KINDS), key=len, reverse=True))
PLACEHOLDER: Final = re.compile(rf"<(?:{_NAMES})_[1-9][0-9]{{0,5}}>")
"""As a vault writes them."""

_GAP: Final = r"(?:\\?_|[ -])"
_LOOSE_NAMES: Final = _NAMES.replace("_", _GAP)
VARIANT: Final = re.compile(
    rf"(?:<|&lt;|(?<!\\)\\u003c) {{0,2}}(?P<name>{_LOOSE_NAMES}){_GAP}(?P<number>[1-9][0-9]{{0,5}})"
    r" {0,2}(?:>|&gt;|\\u003e)",
    re.IGNORECASE,
)
"""As a model may write them: other case, spaces, escaped for Markdown, HTML or JSON."""

LONGEST: Final = len(r"\u003c  ") + 2 * max(map(len, KINDS)) + len(r"\_999999  \u003e")
"""Characters that one may take, however it is written."""

_GAPS: Final = re.compile(_GAP)
_STARTS: Final = ("<", "&lt;", "\\u003c")
_OPEN: Final = re.compile(r"(?:<|&lt;|\\u003c) {0,2}", re.IGNORECASE)
_NAME: Final = re.compile(rf"(?:[a-z]+(?:{_GAP}[a-z0-9]+)*(?:\\?_?|[ -]))?", re.IGNORECASE)
_CLOSING: Final = re.compile(
    r"(?<=[0-9]) {0,2}(?:&(?:gt?)?|\\(?:u(?:0(?:03?)?)?)?)?$", re.IGNORECASE
)


def placeholder(kind: str, number: int) -> str:
    return f"<{kind.upper()}_{number}>"


def plain(variant: re.Match[str]) -> str:
    """The placeholder that a variant stands for."""
    return f"<{_GAPS.sub('_', variant['name']).upper()}_{variant['number']}>"


def unfinished(text: str) -> Iterator[tuple[int, str]]:
    """Where a variant may begin that the text's end cuts off, and how its placeholder begins."""
    for at in range(max(0, len(text) - LONGEST), len(text)):
        if text[at] in "<&\\":
            begun = _beginning(text[at:])
            if begun:
                yield at, begun


def _beginning(cut: str) -> str:
    """How the placeholder begins of which this is the beginning; empty if of none."""
    if any(start.startswith(cut.lower()) for start in _STARTS):
        return "<"
    opened = _OPEN.match(cut)
    if opened is None:
        return ""
    name = _CLOSING.sub("", cut[opened.end() :])
    if not _NAME.fullmatch(name):
        return ""
    return "<" + _GAPS.sub("_", name).rstrip("_\\").upper()

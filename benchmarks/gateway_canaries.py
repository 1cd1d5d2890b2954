"""Private items that stand nowhere else, how people write them, and a search for what they became.

An item is found by its core: its digits, or twelve letters that nobody else has. It is looked for
in a text as it stands and in what programs and people make of texts: JSON's escapes, JSON within
JSON, percent and HTML escapes, base64, look-alike characters, and whatever is put between letters.
"""

import base64
import html
import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final
from urllib.parse import unquote

from tokenworks.gateway.labels import Label

CORE: Final = 12
SMALL: Final = "abcdefghijklmnopqrstuvwxyz"
REGIONS: Final = ("110105", "310115", "440304", "510104", "330106", "420111", "610113", "350203")
_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_SEED: Final = re.compile(rb'"seed":\d+')
_SKIPPED: Final = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Canary:
    """`label` says who may see it; `core` is what it is known by."""

    kind: str
    text: str
    core: str
    label: Label


def core(dice: random.Random) -> str:
    return "".join(dice.choices(SMALL, k=CORE))


def _digits(dice: random.Random, count: int) -> str:
    return "".join(dice.choices("0123456789", k=count))


def _phone(dice: random.Random) -> tuple[str, str]:
    number = f"1{dice.choice('3456789')}{_digits(dice, 9)}"
    return number, number


def _card(dice: random.Random) -> tuple[str, str]:
    begun = dice.choice(("4", "62", "51")) + _digits(dice, 14)
    begun = begun[:15]
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in begun[::2])
    total = doubled + sum(int(digit) for digit in begun[1::2])
    number = begun + str(-total % 10)
    return number, number


def _resident(dice: random.Random) -> tuple[str, str]:
    born = date(1950, 1, 1) + timedelta(days=dice.randrange(20000))
    begun = f"{dice.choice(REGIONS)}{born:%Y%m%d}{_digits(dice, 3)}"
    total = sum(weight * int(digit) for weight, digit in zip(_ID_WEIGHTS, begun, strict=True))
    return begun + "10X98765432"[total % 11], begun


def _email(dice: random.Random) -> tuple[str, str]:
    name = core(dice)
    return f"{dice.choice(('ada', 'wang.fang', 'j'))}.{name}@example.org", name


def _iban(dice: random.Random) -> tuple[str, str]:
    account = _digits(dice, 18)
    check = 98 - int(f"{account}131400") % 97  # D is 13, E is 14
    return f"DE{check:02}{account}", account


def _api_key(dice: random.Random) -> tuple[str, str]:
    name = core(dice)
    return f"sk-proj-{name}{_digits(dice, 8)}{name[::-1].upper()}", name


def _password(dice: random.Random) -> tuple[str, str]:
    name = core(dice)
    return f"password: {name}{_digits(dice, 3)}", name


def _private_key(dice: random.Random) -> tuple[str, str]:
    name = core(dice)
    inner = f"MIIE{_digits(dice, 20)}{name}{_digits(dice, 20)}"
    return f"-----BEGIN PRIVATE KEY-----\n{inner}\n-----END PRIVATE KEY-----", name


def _quiet(dice: random.Random) -> tuple[str, str]:
    name = core(dice)
    return f"the {name} matter", name


MAKERS: Final[dict[str, tuple[Callable[[random.Random], tuple[str, str]], Label]]] = {
    "phone": (_phone, Label.PRIVATE),
    "card": (_card, Label.PRIVATE),
    "cn_resident_id": (_resident, Label.PRIVATE),
    "email": (_email, Label.PRIVATE),
    "iban": (_iban, Label.PRIVATE),
    "api_key": (_api_key, Label.SECRET),
    "password": (_password, Label.SECRET),
    "private_key": (_private_key, Label.SECRET),
    "quiet": (_quiet, Label.PUBLIC),  # shows nothing by itself: its label is told
}
NUMBERS: Final = {"phone": (3, 4, 4), "card": (4, 4, 4, 4), "cn_resident_id": (6, 8, 4)}
"""How the digits of each are grouped."""

DIGITS: Final = (0xFF10, 0x0660, 0x06F0, 0x0966, 0x0E50, 0x1D7CE, 0x17E0, 0x0BE6, 0x1040)
BETWEEN: Final = (
    " ",
    "-",
    "\u2013",
    "\u2011",
    "\u00a0",
    "\u3000",
    "\u2009",
    " - ",
    "  ",
    " \u2013 ",
)
UNSEEN: Final = ("\u200b", "\u00ad", "\u2060", "\ufe0f", "\u2066")
OFTEN: Final = {"phone": 4, "card": 3, "cn_resident_id": 3, "email": 4, "password": 2, "quiet": 3}
"""How often each kind is met, beside those met once."""


def some_kind(dice: random.Random) -> str:
    return dice.choices(list(MAKERS), [OFTEN.get(kind, 1) for kind in MAKERS])[0]


def canary(kind: str, dice: random.Random, least: Label) -> Canary:
    """A new one, which has the label `least` at least."""
    make, label = MAKERS[kind]
    text, known_by = make(dice)
    return Canary(kind, text, known_by, max(label, least))


def disguised(one: Canary, dice: random.Random) -> str:
    """As somebody may write it: half of them as they are."""
    if dice.random() < 0.5 or one.kind not in (*NUMBERS, "email"):
        return one.text
    if one.kind == "email":
        wide = "".join(chr(ord(letter) + 0xFEE0) for letter in one.text)
        return dice.choice((wide, dice.choice(UNSEEN).join(one.text), one.text.upper()))
    way = dice.randrange(4)
    if way == 0:
        zero = dice.choice(DIGITS)
        return "".join(chr(zero + int(x)) if x.isdigit() else x for x in one.text)
    if way == 1:
        return dice.choice(UNSEEN).join(one.text)
    if way == 2 and one.kind != "cn_resident_id":
        return dice.choice((" ", "-")).join(one.text)
    groups, at = [], 0
    for length in NUMBERS[one.kind]:
        groups.append(one.text[at : at + length])
        at += length
    return dice.choice(BETWEEN).join(groups)


class Net:
    """Finds canaries in bytes, whatever was done to them."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self._by_core: dict[str, Canary] = {one.core: one for one in canaries}
        known = self._by_core
        self._lengths = sorted({len(one) for one in known if one.isdigit()})

    def caught(self, data: bytes) -> set[Canary]:
        found: set[Canary] = set()
        for text in set(_forms(_SEED.sub(b"", data))):
            folded = unicodedata.normalize("NFKC", text).casefold()
            letters = _SKIPPED.sub("", folded)
            found |= self._within(letters, CORE)
            digits = "".join(str(unicodedata.digit(x, "")) for x in letters if x.isnumeric())
            for length in self._lengths:
                found |= self._within(digits, length)
        return found

    def _within(self, text: str, length: int) -> set[Canary]:
        known = self._by_core
        places = range(len(text) - length + 1)
        return {known[part] for at in places if (part := text[at : at + length]) in known}


def _forms(data: bytes) -> Iterator[str]:
    """The text, and what it says once it is read as those read it who get it."""
    text = data.decode("utf-8", "replace")
    yield text
    yield "\n".join(_json_texts(text))
    if "%" in text:
        yield unquote(text)
    if "&" in text:
        yield html.unescape(text)
    decoded = [_decoded(match[0]) for match in _BASE64.finditer(data)]
    yield "\n".join(filter(None, decoded))


def _json_texts(text: str, depth: int = 0) -> Iterator[str]:
    """All strings and numbers of JSON, and of JSON in its strings."""
    if depth > 3 or text[:1] not in ("{", "[", '"'):
        return
    try:
        yield from _leaves(json.loads(text), depth)
    except ValueError:
        return


def _leaves(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _leaves(inner, depth)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, depth)
    elif isinstance(value, str):
        yield value
        yield from _json_texts(value.strip(), depth + 1)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _decoded(run: bytes) -> str:
    try:
        padded = run.rstrip(b"=") + b"=" * (-len(run.rstrip(b"=")) % 4)
        return base64.b64decode(padded, altchars=b"-_").decode("utf-8")
    except ValueError:
        return ""

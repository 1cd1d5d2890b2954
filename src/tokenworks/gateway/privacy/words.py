"""Findings that mix letters and digits in one word: accounts, identity numbers, chain addresses."""

import re
from collections.abc import Iterator
from typing import Final

from tokenworks.gateway.privacy import checksums
from tokenworks.gateway.privacy.chains import is_chain_address
from tokenworks.gateway.privacy.context import speaks_of, subject
from tokenworks.gateway.privacy.entities import Found
from tokenworks.gateway.privacy.national import written
from tokenworks.gateway.privacy.numbers import licence_at, number_at, organisation_at

SHORTEST: Final = 7
_MIXED: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:[A-Za-z]++[0-9]|[0-9]++[A-Za-z])[A-Za-z0-9]*+"
    r"|(?<![A-Za-z0-9])[A-Z](?:[A-Z] \d\d \d\d \d\d [A-D]|-\d{7}-?[A-Z])(?![A-Za-z0-9])"
)
_MAY_BE: Final = re.compile(r"[0-9](?:(?<=[A-Za-z].)|(?=[A-Za-z])|(?<=[A-Z][ -].))")
_NAME: Final = re.compile(r"[A-Za-z]+(?=[0-9])")
_NAMES: Final = frozenset({"id", "no", "nr", "num", "number"})
_IBAN: Final = re.compile(r"[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}")


def words(text: str) -> Iterator[Found]:
    """All of them; those of one place do not overlap."""
    if not _MAY_BE.search(text):
        return
    for match in _MIXED.finditer(text):
        at, end = match.span()
        if text[at].isalpha():
            found = _iban(text, at) or _called(text, at)
            if found is not None:
                yield found
                continue
        if end - at >= SHORTEST:
            found = _word(text, at, match[0])
            if found is not None:
                yield found


def _called(text: str, at: int) -> Found | None:
    """A number right after the word for it, as in `tel6022729781`."""
    match = _NAME.match(text, at)
    if match is None or not (match[0].lower() in _NAMES or speaks_of(match[0])):
        return None
    return number_at(text, match.end())


def _iban(text: str, at: int) -> Found | None:
    match = _IBAN.match(text, at)
    if match is None:
        return None
    length = int(checksums.IBAN_LENGTHS.get(match[0][:2].upper(), 0))
    number, end = "", at
    while len(number) < length and end < match.end():
        number += text[end] if text[end].isalnum() else ""
        end += 1
    if text[end : end + 1].isalnum() and text[end : end + 1].isascii():
        return None
    return Found("iban", at, end, 1.0) if checksums.iban(number.upper()) else None


def _word(text: str, at: int, word: str) -> Found | None:
    end = at + len(word)
    if is_chain_address(word):
        return Found("crypto_address", at, end, 0.9)
    if len(word) == 18 and checksums.cn_company_id(word.upper()):
        return Found("cn_company_id", at, end, 0.9)
    if len(word) <= 18 and word.isupper():
        national = written(text, at)
        if national is not None:
            return Found(national[0], at, national[1], 0.9)
    return _by_subject(text, at, end) if len(word) <= 18 else None


def _by_subject(text: str, at: int, end: int) -> Found | None:
    """A word that is what the text calls it; at least half of it are digits."""
    if 2 * sum(letter.isdigit() for letter in text[at:end]) < end - at:
        return None
    around = subject(text, at, end)
    if around in ("driver", "passport"):
        return licence_at(text, at, around)
    return organisation_at(text, at) if around == "company" else None

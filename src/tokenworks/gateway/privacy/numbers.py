"""Findings that begin with a digit: cards, telephone and identity numbers, addresses, dates."""

import re
from collections.abc import Iterator
from typing import Final

from tokenworks.gateway.privacy import checksums
from tokenworks.gateway.privacy.context import subject
from tokenworks.gateway.privacy.dates import date_at
from tokenworks.gateway.privacy.entities import Found
from tokenworks.gateway.privacy.national import any_country, written
from tokenworks.gateway.privacy.phones import phone

SHORTEST: Final = 6
_RUN: Final = re.compile(
    r"[+(0-9](?:(?<![A-Za-z0-9].)|(?<=\\[nrt].))(?:(?<=[0-9])|[+(]?(?=[0-9]))[0-9]*+"
    r"(?:[-. /()]{1,2}[0-9]++)*+"
)
"""Groups of digits. `\\n` and the like before them are escapes, as in JSON."""

_DECIMAL: Final = re.compile(r"\d+\.\d+")
_BEGINNING: Final = re.compile(r"[+(]{0,2}(?:\d[-. /()]{1,2}){0,3}(?:\d\d|\d(?=\.\d(?![\d.])))")
"""Some group near has two digits, or this is a list and no number. But for `8.8.8.8`."""

_ID_BEFORE: Final = re.compile(r"[0-9][A-Za-z0-9]*-$")
_BETWEEN: Final = re.compile(r"(?:[-. /)]|\((?![0-9]))*")
_NEXT: Final = re.compile(rf"[+(]*[0-9]++{_BETWEEN.pattern}")
_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_IPV4: Final = re.compile(rf"(?<!\d\.){_OCTET}(?:\.{_OCTET}){{3}}(?!\d|\.\d)")
_RESIDENT: Final = re.compile(r"\d{6}[ -]?(?:18|19|20)\d{6}[ -]?\d{3}[\dXx](?![A-Za-z0-9])")
_COMPANY: Final = re.compile(r"(?:1[1239]|5[1239]|9[123])\d{16}(?![A-Za-z0-9])")
_NINE: Final = re.compile(r"(\d{3})([- ]?)(\d{2})\2(\d{4})(?![\d-])")
_CARD: Final = re.compile(
    r"(?:\d{12,19}|\d{4}([ .-])\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})?"
    r"|\d{4}([ .-])\d{6}\2\d{4,5})(?!\d)"
)
_ISSUER: Final = re.compile(
    r"4(?:\d{15}|\d{18})|5[1-5]\d{14}|2(?:2[2-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|35\d{14}|(?:2131|1800)\d{11}|(?:6011|65\d\d|64[4-9]\d)\d{12,15}"
    r"|62\d{14}(?:\d{3})?"
)
"""Whose cards have which digits (ISO/IEC 7812 issuer ranges, as the issuers publish them)."""

_ORGANISATION: Final = re.compile(r"([0-9A-Z]{8})-?([0-9X])(?![A-Za-z0-9])")
_ACCOUNT: Final = re.compile(r"(?:\d{7,18}|\d{2,4}(?: \d{2,4}){2,6})(?![\d]|[-.]\d)")
_GROUPED: Final = re.compile(r"\d+(?:[ -]\d+)*")
_LICENSE: Final = re.compile(r"[A-Z]{0,2}\d+(?:[- ]\d+)*[A-Z]{0,2}(?![A-Za-z0-9])")


def numbers(text: str) -> Iterator[Found]:
    """All of them, none overlapping another."""
    for run in _RUN.finditer(text):
        at, end = run.span()
        if _DECIMAL.fullmatch(run[0]) or _goes_on(text, at):
            continue
        while end - at >= SHORTEST:
            found = number_at(text, at) if _BEGINNING.match(text, at) else None
            if found is not None:
                yield found
                at = found.end
            step = _NEXT.match(text, at) if found is None else _BETWEEN.match(text, at)
            assert step is not None
            at = step.end()


def _goes_on(text: str, at: int) -> bool:
    """Whether digits and a hyphen before it make it a part of a longer id, such as a UUID."""
    return text[at - 1 : at] == "-" and bool(_ID_BEFORE.search(text[max(0, at - 8) : at]))


def number_at(text: str, at: int) -> Found | None:
    """What begins there: first what proves itself, then what needs the words around it."""
    first = at
    while not text[first].isdigit():
        first += 1  # a bracket or plus that may belong to a telephone number
    found = _self_evident(text, first)
    if found is not None:
        return found
    around = subject(text, at, at + SHORTEST)
    found = _by_subject(text, first, around) or _card(text, first, around)
    if found is not None:
        return found
    for start in range(at, first + 1):
        telephone = phone(text, start, around)
        if telephone is not None:
            return Found("phone", start, *telephone)
    return _account(text, first) if around == "account" else None


def _self_evident(text: str, at: int) -> Found | None:
    end = date_at(text, at)
    if end is not None:
        return Found("date", at, end, 0.8)
    match = _IPV4.match(text, at)
    if match is not None:
        first = match[0].partition(".")[0]
        # This machine, no machine or many of them: nobody's address.
        if first in ("0", "127") or int(first) >= 224:
            return None
        return Found("ip_address", at, match.end(), 0.8)
    match = _RESIDENT.match(text, at)
    if match is not None and checksums.cn_resident_id(re.sub("[ -]", "", match[0]).upper()):
        return Found("cn_resident_id", at, match.end(), 1.0)
    match = _COMPANY.match(text, at)
    if match is not None and checksums.cn_company_id(match[0]):
        return Found("cn_company_id", at, match.end(), 0.9)
    national = written(text, at)
    if national is not None:
        kind, end = national
        return Found(kind, at, end, 0.9)
    return None


def _by_subject(text: str, at: int, around: str) -> Found | None:
    """A number that is what the text calls it."""
    national = _national(text, at) if around == "identity" else None
    if national is not None:
        return national
    nine = _NINE.match(text, at)
    if nine is not None and (nine[2] == "-" or around in ("ssn", "itin")):
        kind = _of_nine_digits(nine[1] + nine[3] + nine[4])
        if kind and around != "driver":
            return Found(kind, at, nine.end(), 0.9 if around in ("ssn", "itin") else 0.7)
    if around == "company":
        return organisation_at(text, at)
    if around in ("driver", "passport"):
        return licence_at(text, at, around)
    return None


def _account(text: str, at: int) -> Found | None:
    match = _ACCOUNT.match(text, at)
    if match is None or checksums.luhn(match[0].replace(" ", "")):
        return None
    return Found("bank_account", at, match.end(), 0.5)


def _of_nine_digits(digits: str) -> str:
    if checksums.us_ssn(digits):
        return "us_ssn"
    return "us_itin" if checksums.us_itin(digits) else ""


def organisation_at(text: str, at: int) -> Found | None:
    """China's old code of an organisation, which needs the text to speak of one."""
    match = _ORGANISATION.match(text, at)
    if match is None or not checksums.cn_organisation_code(match[1] + match[2]):
        return None
    return Found("cn_company_id", at, match.end(), 0.8)


def _national(text: str, at: int) -> Found | None:
    match = _GROUPED.match(text, at)
    digits = re.sub("[ -]", "", match[0]) if match else ""
    if match is None or not 9 <= len(digits) <= 15:
        return None
    if len(digits) == 15 and checksums.cn_resident_id_old(digits):
        return Found("cn_resident_id", at, match.end(), 0.6)
    return Found("national_id", at, match.end(), 0.7) if any_country(digits) else None


def licence_at(text: str, at: int, around: str) -> Found | None:
    """A passport's or a driver's number, which have no common form: 6 to 16 characters."""
    match = _LICENSE.match(text, at)
    if match is None or not 6 <= len(match[0]) <= 16:
        return None
    return Found("passport" if around == "passport" else "driver_license", at, match.end(), 0.6)


def _card(text: str, at: int, around: str) -> Found | None:
    match = _CARD.match(text, at)
    if match is None:
        return None
    digits = re.sub("[ .-]", "", match[0])
    if not checksums.luhn(digits) or len(set(digits)) == 1:
        return None
    if around in ("card", "account"):
        return Found("card", at, match.end(), 1.0)
    if _ISSUER.fullmatch(digits):
        return Found("card", at, match.end(), 0.8)
    return None

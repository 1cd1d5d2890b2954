"""Check digits of the numbers that are met most often; rarer ones are python-stdnum's business.

All take the number without separators, letters in upper case.
"""

from datetime import date
from typing import Final

_IBAN_REGISTRY: Final = (
    "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 CY:28"
    " CZ:24 DE:22 DJ:27 DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 GE:22"
    " GI:23 GL:18 GR:27 GT:28 HN:28 HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30"
    " KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 MK:19 MN:20 MR:27"
    " MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 RU:33"
    " SA:24 SC:31 SD:18 SE:24 SI:19 SK:24 SM:27 SO:23 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29"
    " VA:22 VG:24 XK:20 YE:30"
)
IBAN_LENGTHS: Final = dict(entry.split(":") for entry in _IBAN_REGISTRY.split())
"""Characters of an IBAN by country (SWIFT's IBAN registry)."""

_LUHN_DOUBLE: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_REGIONS: Final = (
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65"
    " 71 81 82 83 91"
)
_RESIDENT_REGIONS: Final = frozenset(_REGIONS.split())
_RESIDENT_WEIGHTS: Final = tuple(2**power % 11 for power in range(17, 0, -1))
_CREDIT_LETTERS: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CREDIT_WEIGHTS: Final = tuple(3**power % 31 for power in range(17))
_ORGANISATION_WEIGHTS: Final = (3, 7, 9, 10, 5, 8, 4, 2)


def luhn(number: str) -> bool:
    """ISO/IEC 7812-1, annex B. Of digits alone."""
    digits = [int(digit) for digit in reversed(number)]
    return (sum(digits[::2]) + sum(_LUHN_DOUBLE[digit] for digit in digits[1::2])) % 10 == 0


def iban(number: str) -> bool:
    """ISO 13616: its country's length, and ISO/IEC 7064 MOD 97-10."""
    if len(number) != int(IBAN_LENGTHS.get(number[:2], 0)) or not number[2:4].isdigit():
        return False
    return int("".join(str(int(letter, 36)) for letter in number[4:] + number[:4])) % 97 == 1


def cn_resident_id(number: str) -> bool:
    """GB 11643-1999: region, a date of birth that there was, ISO/IEC 7064 MOD 11-2."""
    if number[:2] not in _RESIDENT_REGIONS or not is_date(number[6:14], earliest=1900):
        return False
    total = sum(
        int(digit) * weight for digit, weight in zip(number, _RESIDENT_WEIGHTS, strict=False)
    )
    return "10X98765432"[total % 11] == number[17]


def cn_resident_id_old(number: str) -> bool:
    """15 digits, given until 1999: no check digit, only a region and a date of birth."""
    return number[:2] in _RESIDENT_REGIONS and is_date(f"19{number[6:12]}", earliest=1900)


def cn_company_id(number: str) -> bool:
    """GB 32100-2015, the unified social credit code: 18 characters, check character modulo 31."""
    if len(number) != 18 or not set(number) <= set(_CREDIT_LETTERS):
        return False
    if not number[2:8].isdigit() or number[2:4] not in _RESIDENT_REGIONS | {"10"}:
        return False
    total = sum(
        _CREDIT_LETTERS.index(letter) * weight
        for letter, weight in zip(number, _CREDIT_WEIGHTS, strict=False)
    )
    return _CREDIT_LETTERS[-total % 31] == number[17]


def cn_organisation_code(number: str) -> bool:
    """GB 11714-1997: 8 characters and a check character modulo 11."""
    if len(number) != 9:
        return False
    total = sum(
        int(letter, 36) * weight
        for letter, weight in zip(number, _ORGANISATION_WEIGHTS, strict=False)
    )
    check = 11 - total % 11
    return ("X" if check == 10 else str(check % 11)) == number[8]


def us_ssn(number: str) -> bool:
    """Nine digits that the Social Security Administration may have given (since June 2011)."""
    area, group, serial = number[:3], number[3:5], number[5:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def us_itin(number: str) -> bool:
    """Nine digits from the ranges of the Internal Revenue Service (publication 1915)."""
    group = int(number[3:5])
    return number[0] == "9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group != 93)


def is_date(digits: str, *, earliest: int = 1) -> bool:
    """Whether `YYYYMMDD` was a day between that year and 2099."""
    try:
        return earliest <= date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])).year < 2100
    except ValueError:
        return False

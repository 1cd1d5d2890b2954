"""What can be found in a text: the kinds, and where one of them is."""

from typing import Final, NamedTuple


class Found(NamedTuple):
    """`text[start:end]` is of `kind`. `score` from 0 to 1: how sure that is."""

    kind: str
    start: int
    end: int
    score: float


PERSONAL: Final = (
    "email",
    "phone",
    "card",
    "iban",
    "bank_account",
    "us_ssn",
    "us_itin",
    "national_id",
    "cn_resident_id",
    "passport",
    "driver_license",
    "ip_address",
    "mac_address",
    "crypto_address",
)
COMPANY: Final = ("company_id", "cn_company_id")
"""Numbers of companies, which registers publish."""

PLAIN: Final = ("url", "date")
"""Seldom private by themselves, and found all the same: a policy may call them so."""

CREDENTIALS: Final = (
    "api_key",
    "private_key",
    "jwt",
    "password",
    "url_credentials",
    "secret_token",
)
KINDS: Final = (*PERSONAL, *COMPANY, *PLAIN, *CREDENTIALS)

"""Our check digits against python-stdnum's, and against every error in one digit."""

import hashlib
import re
from datetime import date

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from stdnum import iban as peer_iban
from stdnum import luhn as peer_luhn
from stdnum.cn import ric, uscc
from stdnum.iso7064 import mod_97_10
from stdnum.pl import pesel

from tokenworks.gateway.privacy import checksums
from tokenworks.gateway.privacy.chains import (
    BASE58,
    base58,
    bech32,
    ethereum,
    is_chain_address,
    keccak_256,
)
from tokenworks.gateway.privacy.national import any_country, passes

DIGITS = "0123456789"
CREDIT = "0123456789ABCDEFGHJKLMNPQRTUWXY"
BIRTHS = st.dates(
    min_value=date(1930, 1, 1),
    max_value=date(2020, 12, 31),
)


def digits(count: int) -> st.SearchStrategy[str]:
    return st.text(DIGITS, min_size=count, max_size=count)


def with_error(draw: st.DrawFn, number: str) -> str:
    """The number with one of its digits changed."""
    places = [index for index, letter in enumerate(number) if letter in DIGITS]
    at = draw(st.sampled_from(places))
    other = draw(st.sampled_from([digit for digit in DIGITS if digit != number[at]]))
    return number[:at] + other + number[at + 1 :]


@given(body=st.integers(min_value=7, max_value=18).flatmap(digits), data=st.data())
def test_luhn_accepts_what_is_valid_and_no_error_in_one_digit(
    body: str, data: st.DataObject
) -> None:
    number = body + peer_luhn.calc_check_digit(body)

    assert checksums.luhn(number)
    assert not checksums.luhn(with_error(data.draw, number))


@given(country=st.sampled_from(["GB", "DE", "NL", "PL"]), data=st.data())
def test_iban_accepts_what_is_valid_and_no_error_in_one_digit(
    country: str, data: st.DataObject
) -> None:
    length = int(checksums.IBAN_LENGTHS[country]) - 4
    bank = "ABCD" if country in ("GB", "NL") else ""
    body = bank + data.draw(digits(length - len(bank)))
    number = country + mod_97_10.calc_check_digits(body + country) + body

    assert checksums.iban(number)
    assert not checksums.iban(with_error(data.draw, number))


def test_iban_lengths_are_those_of_the_registry_that_stdnum_has() -> None:
    for example in (
        "GR1601101050000010547023795",
        "BE31435411161155",
        "MT84MALT011000012345MTLCAST001S",
    ):
        assert peer_iban.is_valid(example)
        assert checksums.iban(example)


@given(
    region=st.sampled_from(["110105", "310115", "440304", "510104"]), born=BIRTHS, data=st.data()
)
def test_resident_ids_are_those_of_stdnum_and_have_no_error_in_one_digit(
    region: str, born: object, data: st.DataObject
) -> None:
    body = region + f"{born:%Y%m%d}" + data.draw(digits(3))
    number = body + ric.calc_check_digit(body + "0")

    assert checksums.cn_resident_id(number)
    assert not checksums.cn_resident_id(with_error(data.draw, number))
    assert not checksums.cn_resident_id("99" + number[2:])


@given(middle=digits(6), organisation=st.text(CREDIT, min_size=9, max_size=9), data=st.data())
def test_company_ids_are_those_of_stdnum_and_have_no_error_in_one_digit(
    middle: str, organisation: str, data: st.DataObject
) -> None:
    body = "9111" + middle[:4] + organisation
    number = body + uscc.calc_check_digit(body + "0")

    assert checksums.cn_company_id(number)
    assert not checksums.cn_company_id(with_error(data.draw, number))


@given(body=digits(8), data=st.data())
def test_organisation_codes_add_up_to_a_multiple_of_eleven(body: str, data: st.DataObject) -> None:
    weights = (3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True))
    check = next(value for value in range(11) if (total + value) % 11 == 0)
    number = body + ("X" if check == 10 else str(check))

    assert checksums.cn_organisation_code(number)
    assert not checksums.cn_organisation_code(with_error(data.draw, number))


@given(number=digits(9))
def test_ssn_and_itin_ranges_never_overlap(number: str) -> None:
    assert not (checksums.us_ssn(number) and checksums.us_itin(number))


@pytest.mark.parametrize(
    ("number", "is_ssn", "is_itin"),
    [
        ("536904399", True, False),
        ("000904399", False, False),
        ("666904399", False, False),
        ("536004399", False, False),
        ("536900000", False, False),
        ("912703456", False, True),
        ("912933456", False, False),
        ("912893456", False, False),
    ],
)
def test_numbers_that_were_never_given_are_no_ssn(number: str, is_ssn: bool, is_itin: bool) -> None:
    assert checksums.us_ssn(number) == is_ssn
    assert checksums.us_itin(number) == is_itin


@given(body=digits(9), data=st.data())
@settings(deadline=None)  # the first example imports stdnum
def test_numbers_of_the_health_service_pass_and_those_with_an_error_do_not(
    body: str, data: st.DataObject
) -> None:
    total = sum(int(digit) * weight for digit, weight in zip(body, range(10, 1, -1), strict=True))
    check = -total % 11
    assume(check < 10)
    number = f"{body}{check}"

    assert passes("gb.nhs", number)
    assert any_country(number)
    assert not passes("gb.nhs", with_error(data.draw, number))


@given(body=digits(9))
@settings(deadline=None)
def test_brazilian_numbers_pass(body: str) -> None:
    """Errors may too: a check digit of 10 is written as 0."""
    number = body
    for first in (10, 11):
        weights = range(first, 1, -1)
        total = sum(int(digit) * weight for digit, weight in zip(number, weights, strict=True))
        number += str(-total % 11 % 10)
    assume(len(set(number)) > 1)

    assert passes("br.cpf", number)
    assert not passes("br.cpf", number[:-2] + f"{(int(number[-2:]) + 1) % 100:02}")


def test_a_pesel_passes_and_one_with_an_error_does_not() -> None:
    number = "4405140135" + pesel.calc_check_digit("4405140135")

    assert any_country(number)
    assert not passes("pl.pesel", number[:-1] + str((int(number[-1]) + 1) % 10))


def test_keccak_is_the_hash_that_ethereum_uses() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"

    assert keccak_256(b"").hex() == empty
    assert keccak_256(b"").hex() != hashlib.sha3_256(b"").hexdigest()


@given(
    raw=st.binary(min_size=20, max_size=20), version=st.sampled_from([b"\0", b"\5"]), data=st.data()
)
def test_bitcoin_addresses_pass_and_those_with_an_error_do_not(
    raw: bytes, version: bytes, data: st.DataObject
) -> None:
    body = version + raw
    value = body + hashlib.sha256(hashlib.sha256(body).digest()).digest()[:4]
    number, word = int.from_bytes(value, "big"), ""
    while number:
        number, place = divmod(number, 58)
        word = BASE58[place] + word
    word = "1" * (len(value) - len(value.lstrip(b"\0"))) + word
    at = data.draw(st.integers(0, len(word) - 1))
    other = data.draw(st.sampled_from([letter for letter in BASE58 if letter != word[at]]))

    assert base58(word)
    assert not base58(word[:at] + other + word[at + 1 :])


@pytest.mark.parametrize(
    "address",
    [
        "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
    ],
)
def test_bech32_addresses_of_the_standards_pass(address: str) -> None:
    assert bech32(address)
    assert not bech32(address[:-1] + ("q" if address[-1].lower() != "q" else "p"))
    assert not bech32(address[:5] + address[5:].swapcase())


@given(at=st.integers(2, 41))
def test_the_case_of_an_ethereum_address_is_its_checksum(at: int) -> None:
    address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # from EIP-55
    wrong = address[:at] + address[at].swapcase() + address[at + 1 :]

    assert ethereum(address)
    assert ethereum(address.lower())
    assert is_chain_address(wrong) == (wrong == address)
    assert re.fullmatch("0x[0-9a-fA-F]{40}", wrong)

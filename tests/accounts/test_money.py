"""Money is exact: whole micro-units, in and out of text."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.accounts.money import MOST, micro_of, parse_money, show_money
from tokenworks.errors import RequestError


@pytest.mark.parametrize(
    ("text", "micro"),
    [("12.50", 12_500_000), ("$0.000001", 1), (" 7 ", 7_000_000), ("0", 0), ("1e2", 100_000_000)],
)
def test_amounts_are_read_as_people_write_them(text: str, micro: int) -> None:
    assert parse_money(text) == micro


@pytest.mark.parametrize(
    "text", ["", "-1", "NaN", "inf", "twelve", "1,5", "0.0000001", "9" * 30, "1" * 99, "1e99999999"]
)
def test_what_is_no_amount_is_refused_and_named(text: str) -> None:
    with pytest.raises(RequestError) as refusal:
        parse_money(text, param="money")

    assert refusal.value.param == "money"
    assert repr(text[:40]) in str(refusal.value)


@given(st.integers(0, MOST))
def test_what_is_shown_is_read_as_the_same_amount(micro: int) -> None:
    assert parse_money(show_money(micro).replace(",", "")) == micro


def test_at_least_two_decimal_places_are_shown() -> None:
    assert show_money(12_500_000) == "$12.50"
    assert show_money(-1_234_000_001) == "-$1,234.000001"


@given(st.decimals(0, 1000, places=9))
def test_fractions_of_a_micro_unit_are_rounded_up(amount: Decimal) -> None:
    assert 0 <= micro_of(amount) - amount * 1_000_000 < 1

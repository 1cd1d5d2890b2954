"""Money: whole micro-units of one currency (US dollars), so that sums are exact."""

from decimal import ROUND_CEILING, Decimal
from typing import Final

from tokenworks.errors import RequestError

MICRO: Final = 1_000_000
"""Micro-units in one unit of the currency."""

MOST: Final = 2**53
"""No single amount of money or tokens is larger; sums of very many still fit 64 bits."""


def parse_money(text: str, *, param: str | None = None) -> int:
    """`12.50` or `$12.50` → 12500000.

    Raises RequestError for what is no amount, is negative or has more than six decimal places.
    """
    digits = text.strip().removeprefix("$").replace("_", "")
    try:
        amount = Decimal(digits) * MICRO if len(digits) <= 28 else Decimal("NaN")
    except ArithmeticError:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount <= MOST:
        raise RequestError(
            f"{text[:40]!r} is no amount of money",
            hint="an amount looks like 12.50, in US dollars",
            param=param,
        )
    if amount != amount.to_integral_value():
        raise RequestError(
            f"{text[:40]!r} has more than six decimal places",
            hint="the smallest amount is 0.000001",
            param=param,
        )
    return int(amount)


def show_money(micro: int) -> str:
    """12500000 → `$12.50`; at least two decimal places, and as many as there are."""
    sign = "-" if micro < 0 else ""
    whole, part = divmod(abs(micro), MICRO)
    decimals = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{decimals}"


def micro_of(amount: Decimal) -> int:
    """An amount in whole units of the currency, rounded up to the next micro-unit."""
    return int((amount * MICRO).to_integral_value(rounding=ROUND_CEILING))

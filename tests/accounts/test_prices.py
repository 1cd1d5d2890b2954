"""What tokens cost, and that reservations bound it."""

import socket
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.accounts.prices import FREE, Override, Price, PriceBook, Rate, price_of
from tokenworks.errors import ConfigError

NOW = datetime(2026, 11, 28, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


rates = st.lists(st.integers(0, 10**8), min_size=1, max_size=3).flatmap(
    lambda prices: st.lists(
        st.integers(0, 5000), min_size=len(prices) - 1, max_size=len(prices) - 1, unique=True
    ).map(lambda above: Rate(tuple(prices), tuple(sorted(above))))
)
prices = st.builds(
    Price,
    input=rates,
    output=rates,
    cached=rates,
    cache_write=rates,
    long_cache_write=rates,
    reasoning=rates,
    request=st.integers(0, 10**6),
)
counts = st.integers(0, 10_000)
usages = st.builds(Usage, counts, counts, counts, counts)


def test_each_kind_of_token_has_its_price_and_the_sum_is_rounded_up_once() -> None:
    price = price_of(input="3", output="15", cached="0.3", cache_write="3.75", reasoning="20")

    cost = price.cost(Usage(1000, 100, cached_tokens=600, reasoning_tokens=40))

    assert cost == 400 * 3 + 180 + 60 * 15 + 40 * 20
    assert price.cost(Usage(1000, 0), cache_write_tokens=100) == 900 * 3 + 375
    assert price.cost(Usage(1, 0, cached_tokens=1)) == 1
    assert price_of(input="0.0001", output="0").cost(Usage(3, 0)) == 1
    assert FREE.cost(Usage(10**9, 10**9)) == 0


def test_a_step_holds_for_all_tokens_of_a_longer_prompt() -> None:
    steps = Rate((1_000_000, 2_000_000), (200_000,))
    price = replace(FREE, input=steps)

    assert price.cost(Usage(200_000)) == 200_000
    assert price.cost(Usage(200_001)) == 400_002


@given(prices, usages, counts, counts, counts, counts)
def test_no_usage_within_the_bounds_costs_more_than_the_most(
    price: Price, usage: Usage, written: int, long: int, more: int, more_answer: int
) -> None:
    cost = price.cost(usage, cache_write_tokens=written, long_cache_write_tokens=long)
    most = price.most(usage.prompt_tokens + more, usage.completion_tokens + more_answer)

    assert 0 <= cost <= most


@given(prices, st.builds(Usage, *[st.integers(-5, 50)] * 4))
def test_usage_that_cannot_be_costs_no_less_than_nothing(price: Price, usage: Usage) -> None:
    """A backend may report more cached tokens than the prompt has, or fewer than none."""
    assert price.cost(usage) >= price.request


def test_of_overrides_that_fit_the_latest_that_is_valid_holds() -> None:
    old, new, future = (price_of(input=text, output="0") for text in ("1", "2", "3"))
    book = PriceBook(
        (
            Override(provider="*", model="big-*", price=new, valid_from=NOW - 10),
            Override(provider="Site", model="big-*", price=old, valid_from=NOW - 20),
            Override(provider="site", model="*", price=future, valid_from=NOW + 10),
        )
    )

    assert book.price("site", "BIG-1", NOW) == new
    assert book.price("site", "big-1", NOW - 15) == old
    assert book.price("site", "big-1", NOW + 10) == future
    assert book.price("site", "other", NOW) is None


def test_published_prices_are_found_by_provider_or_url_and_say_where_they_are_from() -> None:
    book = PriceBook()

    by_name = book.price("openai", "gpt-4o-mini", NOW)
    by_url = book.price("https://api.openai.com/v1", "GPT-4o-mini", NOW)

    assert by_name is not None
    assert by_name == by_url
    assert by_name.source.startswith("genai-prices: openai")
    assert by_name.cost(Usage(1_000_000, 1_000_000)) == 750_000
    assert by_name.cost(Usage(1_000_000, 0, cached_tokens=1_000_000)) == 75_000


def test_an_override_goes_before_what_is_published() -> None:
    own = price_of(input="0.01", output="0.02")
    book = PriceBook((Override(provider="openai", model="gpt-4o-mini", price=own),))

    assert book.price("openai", "gpt-4o-mini", NOW) == own
    assert book.price("openai", "gpt-4o", NOW) != own


@pytest.mark.parametrize("text", ["", "-1", "NaN", "free", "1e9", "1,5"])
def test_what_is_no_price_is_refused_and_named(text: str) -> None:
    with pytest.raises(ConfigError, match="is no price"):
        price_of(input="1", output=text)


@pytest.mark.parametrize("provider", ["nobody", "https://models.internal/v1", ""])
def test_a_price_that_nobody_says_is_none(provider: str) -> None:
    assert PriceBook().price(provider, "unheard-of", NOW) is None


def test_prices_depend_on_the_date() -> None:
    book = PriceBook()
    dates = [datetime(year, 6, 1, tzinfo=UTC).timestamp() for year in (2023, 2026)]

    found = {book.price("openai", "o3", at) for at in dates}

    assert len(found) == 2


def test_looking_a_price_up_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)

    assert PriceBook().price("anthropic", "claude-3-5-haiku-latest", NOW) is not None

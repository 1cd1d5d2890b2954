"""What tokens cost, by provider, model and date: first as this installation says, then as
published."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Protocol

from tokenworks.accounts.money import MICRO, micro_of
from tokenworks.errors import ConfigError

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, TieredPrices

_DEAREST: Final = 1_000_000
_MOST_REMEMBERED: Final = 4096
"""Pairs of provider and model whose published prices are kept at hand."""


class Counted(Protocol):
    """Tokens of a request, as backends report them: cached ones are part of the prompt, those of
    reasoning part of the completion."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def completion_tokens(self) -> int: ...

    @property
    def cached_tokens(self) -> int: ...

    @property
    def reasoning_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Rate:
    """Micro-units for a million tokens: `prices[i]` where the prompt has more than `above[i - 1]`.

    A step holds for all tokens of the request, as providers bill it, not just for those beyond.
    """

    prices: tuple[int, ...]
    above: tuple[int, ...] = ()

    @classmethod
    def flat(cls, price: int) -> "Rate":
        return cls((price,))

    def at(self, prompt_tokens: int) -> int:
        return self.prices[bisect_right(self.above, prompt_tokens - 1)]

    def most(self, prompt_tokens: int) -> int:
        """The highest price of any prompt that is no longer than this."""
        return max(self.prices[: bisect_right(self.above, prompt_tokens - 1) + 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model's tokens cost at a provider. `source` says who said so."""

    input: Rate
    output: Rate
    cached: Rate
    cache_write: Rate
    long_cache_write: Rate  # to caches that are kept for an hour
    reasoning: Rate
    request: int = 0  # micro-units for each request, whatever its tokens
    source: str = ""

    def cost(
        self, usage: Counted, *, cache_write_tokens: int = 0, long_cache_write_tokens: int = 0
    ) -> int:
        """Micro-units for a request, rounded up once. Tokens written to a cache are part of the
        prompt, and are neither read from one nor written to another."""
        prompt = max(0, usage.prompt_tokens)
        completion = max(0, usage.completion_tokens)
        cached = _within(usage.cached_tokens, prompt)
        written = _within(cache_write_tokens, prompt - cached)
        long = _within(long_cache_write_tokens, prompt - cached - written)
        reasoning = _within(usage.reasoning_tokens, completion)
        millionths = (
            (prompt - cached - written - long) * self.input.at(prompt)
            + cached * self.cached.at(prompt)
            + written * self.cache_write.at(prompt)
            + long * self.long_cache_write.at(prompt)
            + (completion - reasoning) * self.output.at(prompt)
            + reasoning * self.reasoning.at(prompt)
        )
        return self.request + -(-millionths // MICRO)

    def most(self, prompt_tokens: int, max_tokens: int) -> int:
        """What a request costs at most that has no more tokens than these, however they count."""
        rates = (self.input, self.cached, self.cache_write, self.long_cache_write)
        prompt = max(rate.most(prompt_tokens) for rate in rates)
        answer = max(rate.most(prompt_tokens) for rate in (self.output, self.reasoning))
        millionths = max(0, prompt_tokens) * prompt + max(0, max_tokens) * answer
        return self.request + -(-millionths // MICRO)


def price_of(
    *,
    input: str,
    output: str,
    cached: str | None = None,
    cache_write: str | None = None,
    reasoning: str | None = None,
    request: str = "0",
    source: str = "settings",
) -> Price:
    """A price from what people write: US dollars for a million tokens, e.g. `"0.15"`.

    What is not given costs as much as what it is part of. Raises ConfigError for what is no price.
    """

    def rate(text: str | None, otherwise: str) -> Rate:
        return Rate.flat(_micro(otherwise if text is None else text))

    return Price(
        input=rate(input, input),
        output=rate(output, output),
        cached=rate(cached, input),
        cache_write=rate(cache_write, input),
        long_cache_write=rate(cache_write, input),
        reasoning=rate(reasoning, output),
        request=_micro(request),
        source=source,
    )


def _micro(text: str) -> int:
    try:
        amount = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount <= _DEAREST:
        raise ConfigError(
            f"{text[:40]!r} is no price",
            hint="a price looks like 0.15: US dollars for a million tokens, at most a million",
        )
    return micro_of(amount)


FREE: Final = price_of(input="0", output="0", source="this machine")
"""For backends that nobody bills for their tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A price that this installation sets, from a moment on (seconds since 1970 UTC).

    `provider` and `model` are patterns as shells have them, compared without regard to case.
    """

    provider: str
    model: str
    price: Price
    valid_from: float = 0.0

    def fits(self, provider: str, model: str, at: float) -> bool:
        return (
            self.valid_from <= at
            and fnmatchcase(provider, self.provider.casefold())
            and fnmatchcase(model, self.model.casefold())
        )


class PriceBook:
    """Of overrides that fit, the one that is valid since last holds; of several, the last listed.

    Published prices are those in the package `genai-prices` as installed: nothing is fetched. The
    first of them takes a tenth of a second to find, so ask for one before requests wait for it.
    """

    def __init__(self, overrides: Sequence[Override] = ()) -> None:
        self._overrides = tuple(overrides)
        self._published: dict[tuple[str, str], _Published | None] = {}

    def price(self, provider: str, model: str, at: float) -> Price | None:
        """The price at a moment, or None where nobody says one.

        `provider` is a name that genai-prices knows, e.g. `openai`, or the backend's URL.
        """
        provider, model = provider.casefold(), model.casefold()
        fitting = [each for each in self._overrides if each.fits(provider, model, at)]
        if fitting:
            return max(enumerate(fitting), key=lambda pair: (pair[1].valid_from, pair[0]))[1].price
        known = self._published
        if (provider, model) not in known:
            if len(known) >= _MOST_REMEMBERED:
                known.clear()
            known[provider, model] = _published(provider, model)
        found = known[provider, model]
        return found.price(at) if found else None


class _Published:
    """A model's published prices; which one holds may depend on the date and the time of day."""

    def __init__(self, model: "_Dated", source: str) -> None:
        self._model = model
        self._source = source
        self._seen: dict[int, Price | None] = {}

    def price(self, at: float) -> Price | None:
        found = self._model.get_prices(datetime.fromtimestamp(at, UTC))
        if id(found) not in self._seen:
            self._seen[id(found)] = _translated(found, self._source)
        return self._seen[id(found)]


class _Dated(Protocol):
    def get_prices(self, request_timestamp: datetime) -> "ModelPrice": ...


def _published(provider: str, model: str) -> _Published | None:
    from genai_prices.data_snapshot import get_snapshot  # a megabyte of prices: when first needed

    name, url = (None, provider) if "://" in provider else (provider, None)
    try:
        found, info = get_snapshot().find_provider_model(model, None, name, url)
    except LookupError:
        return None
    return _Published(info, f"genai-prices: {found.id} {info.id}")


def _translated(price: "ModelPrice", source: str) -> Price | None:
    """None without a price for plain input: it is then a model that is not billed by tokens."""
    entry = _rate(price.input_mtok)
    if entry is None:
        return None
    output = _rate(price.output_mtok) or Rate.flat(0)
    written = _rate(price.cache_write_mtok) or entry
    per_thousand = _rate(price.requests_kcount)
    return Price(
        input=entry,
        output=output,
        cached=_rate(price.cache_read_mtok) or entry,
        cache_write=written,
        long_cache_write=_rate(price.cache_write_1h_mtok) or written,
        reasoning=_rate(price.output_reasoning_mtok) or output,
        request=-(-per_thousand.prices[0] // 1000) if per_thousand else 0,
        source=source,
    )


def _rate(price: "Decimal | TieredPrices | None") -> Rate | None:
    if price is None:
        return None
    if isinstance(price, Decimal):
        return Rate.flat(micro_of(price))
    steps = price.tiers
    return Rate(
        (micro_of(price.base), *(micro_of(step.price) for step in steps)),
        tuple(step.start for step in steps),
    )


def _within(tokens: int, whole: int) -> int:
    return min(max(0, tokens), whole)

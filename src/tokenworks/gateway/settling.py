"""What a request has cost, from how its attempts went. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import json

from tokenworks.accounts.ledger import Settlement, Status
from tokenworks.gateway.backend import Usage
from tokenworks.gateway.failover import Tried
from tokenworks.gateway.labels import Label
from tokenworks.gateway.placed import Placed
from tokenworks.gateway.timing import Timing

LONGEST_ROUTE: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A request that is over. `prompt_tokens` is the estimate, for backends that did not say."""

    request_id: str
    model: str
    label: Label
    status: Status
    prompt_tokens: int
    at: float  # Unix seconds at which prices count


def settlement_of(
    ended: Ended, tried: Sequence[Tried], placed: Mapping[str, Placed], timing: Timing
) -> Settlement:
    """Each attempt that reached a backend costs what that one takes, whoever ended the answer."""
    usages = [(one.name, _usage(one, ended.prompt_tokens)) for one in tried]
    reached = [(name, usage) for name, usage in usages if usage is not None]
    costs = tuple((name, _cost(placed[name], usage, ended)) for name, usage in reached)
    last = placed[tried[-1].name] if tried else None
    return Settlement(
        request_id=ended.request_id,
        status=ended.status,
        costs=costs,
        backend=last.name if last else "",
        tier=last.tier if last else "",
        label=ended.label.word,
        model=ended.model,
        prompt_tokens=sum(usage.prompt_tokens for _, usage in reached),
        cached_tokens=sum(usage.cached_tokens for _, usage in reached),
        completion_tokens=sum(usage.completion_tokens for _, usage in reached),
        reasoning_tokens=sum(usage.reasoning_tokens for _, usage in reached),
        energy_j=_energy(reached, placed),
        first_token_ms=timing.first_ms,
        gap_p50_ms=timing.gap_ms(0.5),
        gap_p99_ms=timing.gap_ms(0.99),
        attempts=len(tried),
        route=route_of(tried),
    )


def route_of(tried: Sequence[Tried]) -> str:
    """How it went, as short JSON for the ledger."""
    said = [
        {
            "backend": one.name,
            **({"failed": one.error[:200]} if one.error else {}),
            **({"resumed": one.resumed} if one.resumed else {}),
        }
        for one in tried
    ]
    text = json.encode(said).decode()
    return text if len(text) <= LONGEST_ROUTE else "[]"


def _usage(one: Tried, prompt_tokens: int) -> Usage | None:
    """What an attempt took; one that was left alone had read its prompt. None: it failed before."""
    if one.usage is not None:
        return one.usage
    if not one.tokens and one.error:
        return None
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=one.tokens)


def _cost(placed: Placed, usage: Usage, ended: Ended) -> int:
    price = placed.pricing(ended.model, ended.at)
    return 0 if price is None else price.cost(usage)


def _energy(reached: Sequence[tuple[str, Usage]], placed: Mapping[str, Placed]) -> float | None:
    """Joules, where every backend that was reached has an estimate."""
    parts = [
        (placed[name].energy_j_per_token, usage.prompt_tokens + usage.completion_tokens)
        for name, usage in reached
    ]
    if not parts or any(each is None for each, _ in parts):
        return None
    return sum((each or 0.0) * tokens for each, tokens in parts)

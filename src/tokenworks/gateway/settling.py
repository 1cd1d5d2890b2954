"""What a request has cost, from how its attempts went. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec import json

from tokenworks.accounts.ledger import Settlement, Status
from tokenworks.gateway.backend import Usage
from tokenworks.gateway.failover import Tried
from tokenworks.gateway.labels import Label
from tokenworks.gateway.placed import Placed
from tokenworks.gateway.timing import Timing

LONGEST_ROUTE: Final = 2000

BYTES_A_TOKEN: Final = 3
"""Of a prompt, about: for backends that do not say what they read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A request that is over. `prompt_bound`: tokens that its prompt has at most, its bytes."""

    request_id: str
    model: str
    label: Label
    status: Status
    prompt_bound: int
    at: float  # Unix seconds at which prices count


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one attempt took, and costs in micro-units; nothing where it failed before it began.

    `estimated`: the backend has not said what it took, as when it was cancelled.
    """

    tried: Tried
    usage: Usage | None = None
    money: int = 0
    estimated: bool = False

    def described(self) -> dict[str, Any]:
        """As an administrator is told, without what says nothing."""
        one, said = self.tried, {"backend": self.tried.name}
        told = {
            "error": one.error[:200],
            "resumed": one.resumed,
            "overtaken": one.overtaken,
            "money": self.money,
            "estimated": self.estimated,
        }
        return {**said, **{name: value for name, value in told.items() if value}}


def taken_by(
    ended: Ended, tried: Sequence[Tried], placed: Mapping[str, Placed]
) -> tuple[Taken, ...]:
    """Each attempt that reached a backend costs what that one takes, whoever ended the answer."""
    prompt_tokens = _prompt_tokens(ended, tried)
    return tuple(_taken(one, placed[one.name], ended, prompt_tokens) for one in tried)


def settlement_of(
    ended: Ended, taken: Sequence[Taken], placed: Mapping[str, Placed], timing: Timing
) -> Settlement:
    reached = [(one.tried.name, one.usage) for one in taken if one.usage is not None]
    last = placed[taken[-1].tried.name] if taken else None
    return Settlement(
        request_id=ended.request_id,
        status=ended.status,
        costs=tuple((one.tried.name, one.money) for one in taken if one.usage is not None),
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
        attempts=len(taken),
        route=route_of(taken),
    )


def route_of(taken: Sequence[Taken]) -> str:
    """How it went, as short JSON for the ledger: money in micro-units by attempt."""
    text = json.encode([one.described() for one in taken]).decode()
    return text if len(text) <= LONGEST_ROUTE else "[]"


def _prompt_tokens(ended: Ended, tried: Sequence[Tried]) -> int:
    """For attempts that have not said: as another one counted them, within what may be so."""
    counted = next((one.usage.prompt_tokens for one in reversed(tried) if one.usage), 0)
    return min(counted, ended.prompt_bound) or -(-ended.prompt_bound // BYTES_A_TOKEN)


def _taken(one: Tried, placed: Placed, ended: Ended, prompt_tokens: int) -> Taken:
    if not one.reached:
        return Taken(tried=one)
    usage = one.usage or Usage(prompt_tokens=prompt_tokens, completion_tokens=one.tokens)
    price = placed.pricing(ended.model, ended.at)
    money = 0 if price is None else price.cost(usage)
    return Taken(tried=one, usage=usage, money=money, estimated=one.usage is None)


def _energy(reached: Sequence[tuple[str, Usage]], placed: Mapping[str, Placed]) -> float | None:
    """Joules, where every backend that was reached has an estimate."""
    parts = [
        (placed[name].energy_j_per_token, usage.prompt_tokens + usage.completion_tokens)
        for name, usage in reached
    ]
    if not parts or any(each is None for each, _ in parts):
        return None
    return sum((each or 0.0) * tokens for each, tokens in parts)

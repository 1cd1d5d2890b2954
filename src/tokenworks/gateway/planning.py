"""From a request to the attempts that may answer it: label it, rank backends, mask where needed."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tokenworks.accounts.spending import Amounts
from tokenworks.gateway.backend import Chunk, Completion
from tokenworks.gateway.failover import Attempt, Resumption, WhenBroken
from tokenworks.gateway.labelling import Labelled, Labeller, masked
from tokenworks.gateway.labels import Label
from tokenworks.gateway.needs import needs_of
from tokenworks.gateway.placed import Placed
from tokenworks.gateway.policies import Policies
from tokenworks.gateway.privacy.masking import Vault
from tokenworks.gateway.ranking import Candidate, Features, Route, View, rank
from tokenworks.gateway.request_text import texts_of
from tokenworks.gateway.restoring import restored

MESSAGE_TOKENS: Final = 16
"""Tokens that a chat template writes around a message, at most."""

IMAGE_TOKENS: Final = 4096
"""Tokens that an image is reckoned to take, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`attempts` in the order in which they are made, `each` what every one takes at most. `most`
    is what is reserved before the first."""

    request: Completion
    labelled: Labelled
    attempts: tuple[Attempt, ...]
    placed: dict[str, Placed]
    prompt_tokens: int
    each: tuple[Amounts, ...]
    most: Amounts
    route: dict[str, Any]
    when_broken: WhenBroken = "error"
    hedge_after_s: float = 0.0
    vault: Vault | None = None

    def restored(self, chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
        """The answer with what was masked put back."""
        return chunks if self.vault is None else restored(chunks, self.vault)


class Planner:
    """Plans requests over the backends that `placed` gives at that moment."""

    def __init__(
        self,
        placed: Callable[[], Sequence[Placed]],
        labeller: Labeller,
        unix_time: Callable[[], float],
    ) -> None:
        self._placed = placed
        self._labeller = labeller
        self._unix_time = unix_time

    def plan(self, request: Completion, given: Sequence[Label], policies: Policies) -> Plan:
        """Raises LabelError if no backend may see the data, RequestError if none can do what is
        asked, BackendError if none of those that can answers now."""
        labelled = self._labeller.label(request, given, policies.labels)
        features = Features(
            model=request.model,
            label=labelled.label,
            masked=labelled.masked,
            needs=needs_of(request),
            prompt_tokens=prompt_bound(request),
            max_tokens=request.max_tokens,
            answers=request.n,
        )
        views = [_view(one, request.model, self._unix_time()) for one in self._placed()]
        route = rank(features, views, policies.routing)
        if not route.ranked:
            raise route.refusal()
        return self._planned(request, labelled, features, route, policies)

    def _planned(
        self,
        request: Completion,
        labelled: Labelled,
        features: Features,
        route: Route,
        policies: Policies,
    ) -> Plan:
        by_name = {one.name: one for one in self._placed()}
        chosen = route.ranked[: policies.failover.attempts]
        vault = Vault(labelled.maskable) if any(one.masked for one in chosen) else None
        hidden = None if vault is None else masked(request, vault)
        attempts = tuple(
            _attempt(by_name, one, hidden if one.masked and hidden else request) for one in chosen
        )
        now, bound = self._unix_time(), features.prompt_tokens
        most = [_most(by_name[one.name], request, bound, now) for one in chosen]
        return Plan(
            request=request,
            labelled=labelled,
            attempts=attempts,
            placed=by_name,
            prompt_tokens=features.prompt_tokens,
            each=tuple(most),
            most=_together(most, policies.failover.hedge_after_s > 0),
            route=route.explain(),
            when_broken=policies.failover.when_broken,
            hedge_after_s=policies.failover.hedge_after_s,
            vault=vault,
        )


def prompt_bound(request: Completion) -> int:
    """Tokens that the prompt has at most: a token stands for one byte at least."""
    if isinstance(request.prompt, list):
        return len(request.prompt)
    total = sum(len(text.encode("utf-8", "replace")) for text in texts_of(request))
    for message in request.messages or ():
        total += MESSAGE_TOKENS
        if isinstance(content := message.get("content"), list):
            total += IMAGE_TOKENS * sum(part["type"] == "image_url" for part in content)
    return total


def _view(placed: Placed, model: str, now: float) -> View:
    serves = placed.serves(model)
    return View(
        name=placed.name,
        tier=placed.tier,
        clearance=placed.clearance,
        serves=serves,
        abilities=placed.abilities,
        length=placed.length(),
        region=placed.region,
        price=placed.pricing(model, now) if serves else None,
        answer_tokens=placed.answer_tokens,
        energy_j_per_token=placed.energy_j_per_token,
        state=placed.state(),
    )


def _attempt(by_name: Mapping[str, Placed], one: Candidate, request: Completion) -> Attempt:
    placed = by_name[one.name]

    def resumption(of: str) -> Resumption:
        return placed.resumption(of, by_name[of].engine if of in by_name else "")

    return Attempt(name=placed.name, backend=placed.backend, request=request, resumption=resumption)


def _most(placed: Placed, request: Completion, prompt_tokens: int, now: float) -> Amounts:
    """What the answer of this backend takes at most."""
    answer = placed.bound(request, prompt_tokens)
    price = placed.pricing(request.model, now)
    money = 0 if price is None else price.most(prompt_tokens, answer)
    return Amounts(money=money, tokens=prompt_tokens + answer)


def _together(each: Sequence[Amounts], hedged: bool) -> Amounts:
    """What any one of the attempts takes at most; of the first two both, where they run at once."""
    money, tokens = max(one.money for one in each), max(one.tokens for one in each)
    if hedged:
        money = max(money, sum(one.money for one in each[:2]))
        tokens = max(tokens, sum(one.tokens for one in each[:2]))
    return Amounts(money=money, tokens=tokens)

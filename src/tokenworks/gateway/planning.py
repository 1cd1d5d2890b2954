"""From a request to the attempts that may answer it: label it, rank backends, mask where needed."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from msgspec import json

from tokenworks.accounts.spending import Amounts
from tokenworks.errors import LabelError, TokenworksError
from tokenworks.gateway.backend import Chunk, Completion
from tokenworks.gateway.failover import Attempt, Resumption, WhenBroken
from tokenworks.gateway.labelling import Labelled, Labeller
from tokenworks.gateway.labels import Label
from tokenworks.gateway.model_choice import ModelChoice, ModelChooser
from tokenworks.gateway.needs import needs_of
from tokenworks.gateway.placed import Placed
from tokenworks.gateway.policies import LabelPolicy, Policies
from tokenworks.gateway.privacy.labels import label_of_text
from tokenworks.gateway.privacy.masking import Vault
from tokenworks.gateway.ranking import Candidate, Features, Route, RuledOut, View, rank
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
        if self.vault is None:
            return chunks
        return restored(chunks, self.vault, json="response_format" in self.request.further)


class Planner:
    """Plans requests over the backends that `placed` gives at that moment.

    `chooser` gives what chooses between two models where one name stands for both.
    """

    def __init__(
        self,
        placed: Callable[[], Sequence[Placed]],
        labeller: Labeller,
        unix_time: Callable[[], float],
        chooser: Callable[[], ModelChooser | None] = lambda: None,
    ) -> None:
        self._placed = placed
        self._labeller = labeller
        self._unix_time = unix_time
        self._chooser = chooser

    async def plan(
        self,
        request: Completion,
        least: Label | None,
        given: Sequence[Label],
        policies: Policies,
    ) -> Plan:
        """Labels as in `Labeller.label`.

        Raises LabelError if no backend may see the data, RequestError if none can do what is
        asked, BackendError if none of those that can answers now.
        """
        chooser, placed = self._chooser(), self._placed()  # now: they go with these policies
        labelled = await self._labeller.label(request, least, given, policies.labels)
        features = Features(
            model=request.model,
            label=labelled.label,
            masked=labelled.masked,
            needs=needs_of(request),
            prompt_tokens=prompt_bound(request),
            max_tokens=request.max_tokens,
            answers=request.n,
        )
        if chooser is not None and chooser.means(request.model):
            choice = chooser.choose(request, policies.routing.objective)
            return await self._chosen(choice, request, labelled, features, policies, placed)
        route = self._route(features, policies, placed)
        if not route.ranked:
            raise _refused(route)
        return await self._planned(request, labelled, route, policies, placed)

    def _route(self, features: Features, policies: Policies, placed: Sequence[Placed]) -> Route:
        views = [_view(one, features.model, self._unix_time()) for one in placed]
        return rank(features, views, policies.routing)

    async def _chosen(
        self,
        choice: ModelChoice,
        request: Completion,
        labelled: Labelled,
        features: Features,
        policies: Policies,
        placed: Sequence[Placed],
    ) -> Plan:
        """With the model that was chosen, or the other one where nobody that has it may answer."""
        ruled_out: list[RuledOut] = []
        for name in (choice.first, choice.other):
            model = _served(name, placed)
            route = self._route(replace(features, model=model), policies, placed)
            ruled_out += route.ruled_out
            if not route.ranked:
                continue
            asked = replace(request, model=model)
            try:
                plan = await self._planned(asked, labelled, route, policies, placed)
            except LabelError as error:  # all of them need it masked, and that cannot be done
                ruled_out += (
                    RuledOut(name=one.name, rule="label", why=error.message) for one in route.ranked
                )
                continue
            before = ruled_out if name != choice.first else ()
            return replace(plan, route={**plan.route, "quality": choice.explain(name, before)})
        raise _refused(Route(features=features, ranked=(), ruled_out=tuple(ruled_out)))

    async def _planned(
        self,
        request: Completion,
        labelled: Labelled,
        route: Route,
        policies: Policies,
        placed: Sequence[Placed],
    ) -> Plan:
        features = route.features
        by_name = {one.name: one for one in placed}
        ranked, hidden, vault = await self._maskable(request, labelled, route.ranked)
        chosen = ranked[: policies.failover.attempts]
        attempts = tuple(
            _attempt(
                by_name, one, hidden if one.masked and hidden else request, vault, policies.labels
            )
            for one in chosen
        )
        now, bound = self._unix_time(), features.prompt_tokens
        most = [_most(by_name[one.name], request, bound, now) for one in chosen]
        vault = vault if any(one.masked for one in chosen) else None
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

    async def _maskable(
        self, request: Completion, labelled: Labelled, ranked: Sequence[Candidate]
    ) -> tuple[Sequence[Candidate], Completion | None, Vault | None]:
        """The candidates, the request as those see it that may not see all, and what restores it.

        Where it cannot be masked, those are out. Raises LabelError if there are no others.
        """
        if not any(one.masked for one in ranked):
            return ranked, None, None
        vault = Vault(labelled.maskable)
        try:
            return ranked, await self._labeller.masked(request, vault), vault
        except LabelError:
            whole = [one for one in ranked if not one.masked]
            if not whole:
                raise
            return whole, None, None


def _served(model: str, placed: Sequence[Placed]) -> str:
    """The id by which backends serve it, whatever the case of its letters."""
    wanted = model.casefold()
    ids = (name for one in placed for name in one.backend.models)
    return next((name for name in ids if name.casefold() == wanted), model)


def _refused(route: Route) -> Exception:
    error = route.refusal()
    if isinstance(error, TokenworksError):
        error.explained = route.explain()
    return error


def prompt_bound(request: Completion) -> int:
    """Tokens that the prompt has at most: a token stands for one byte at least."""
    if isinstance(request.prompt, list):
        return len(request.prompt) + _bytes(request.begun)
    total = _bytes(request.prompt or "") + _bytes(request.begun)
    total += len(json.encode(request.further)) + len(json.encode(request.template_options))
    for message in request.messages or ():
        content = message.get("content") or ""
        parts = [{"text": content}] if isinstance(content, str) else content
        total += MESSAGE_TOKENS + len(json.encode(message.get("tool_calls") or ""))
        total += _bytes(str(message.get("tool_call_id", "")))
        total += sum(_bytes(part["text"]) if "text" in part else IMAGE_TOKENS for part in parts)
    return total


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


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


def _attempt(
    by_name: Mapping[str, Placed],
    one: Candidate,
    request: Completion,
    vault: Vault | None,
    labels: LabelPolicy,
) -> Attempt:
    placed = by_name[one.name]

    def resumption(of: str) -> Resumption:
        return placed.resumption(of, by_name[of].engine if of in by_name else "")

    def may_see(text: str) -> bool:
        """What another backend answered may hold more than the request, and what is masked here."""
        if labels.detect and label_of_text(text, labels.of_kinds()) > placed.clearance:
            return False
        if not one.masked:
            return True
        return vault is not None and vault.mask(text) == text and not vault.ends_within_one(text)

    return Attempt(
        name=placed.name,
        backend=placed.backend,
        request=placed.bounded(request),
        resumption=resumption,
        may_see=may_see,
    )


def _most(placed: Placed, request: Completion, prompt_tokens: int, now: float) -> Amounts:
    """What the answer of this backend takes at most."""
    answer = placed.bound(request, prompt_tokens)
    price = placed.pricing(request.model, now)
    money = 0 if price is None else price.most(prompt_tokens, answer)
    return Amounts.at_most(money, prompt_tokens + answer)


def _together(each: Sequence[Amounts], hedged: bool) -> Amounts:
    """What any one of the attempts takes at most; of the first two both, where they run at once."""
    money, tokens = max(one.money for one in each), max(one.tokens for one in each)
    if hedged:
        money = max(money, sum(one.money for one in each[:2]))
        tokens = max(tokens, sum(one.tokens for one in each[:2]))
    return Amounts.at_most(money, tokens)

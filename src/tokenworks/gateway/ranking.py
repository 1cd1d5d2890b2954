"""Which backend may and should answer a request: rules first, then scores. Pure.

Whatever is not known counts against a backend. The label is looked at before anything else and no
score can outweigh it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import msgspec

from tokenworks.accounts.prices import Price
from tokenworks.errors import BackendError, LabelError, ModelNotFound, RequestError
from tokenworks.gateway.backend import Tier
from tokenworks.gateway.labels import Label
from tokenworks.gateway.needs import WORDS, Need
from tokenworks.gateway.upstream.health import BackendState

Objective = Literal["near", "cost", "first_token", "energy", "quality"]
"""What counts: the nearest tier, money, the time to the first token, joules, or the answer: which
of two models is likelier to be right (see `model_choice`), and that it sees the data unmasked."""

TIERS: Final[tuple[Tier, ...]] = ("device", "edge", "site", "cloud")
UNKNOWN_FIRST_TOKEN_S: Final = 1.0
"""What a backend is reckoned to take that has not answered yet: it must get a chance to."""

Rule = Literal["model", "label", "tier", "region", "ability", "context", "price", "money", "health"]


class RoutingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    objective: Objective = "near"
    tiers: tuple[Tier, ...] = TIERS  # those that may be used, the preferred ones first
    regions: tuple[str, ...] = ()  # empty: any, unknown ones too
    most_money: Annotated[float, msgspec.Meta(ge=0)] | None = None  # US dollars for one request
    unknown_price: Literal["refuse", "free"] = "refuse"  # a backend whose price nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """`masked` is the label once what may be masked is. `needs` have the parameter that needs it.

    `prompt_tokens` are an upper bound.
    """

    model: str
    label: Label
    masked: Label
    needs: Mapping[Need, str] = field(default_factory=dict)
    prompt_tokens: int = 0
    max_tokens: int | None = None
    answers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A backend as the policy sees it. `price` None: nobody knows it. `length` 0: not known."""

    name: str
    tier: Tier
    clearance: Label
    serves: bool
    abilities: frozenset[str]
    length: int
    region: str
    price: Price | None
    answer_tokens: int
    energy_j_per_token: float | None
    state: BackendState


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """`masked`: it may see the data only once what may be masked is. Lower scores are better."""

    name: str
    masked: bool
    score: tuple[float, ...]
    parts: Mapping[str, float | int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuledOut:
    name: str
    rule: Rule
    why: str
    param: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    features: Features
    ranked: tuple[Candidate, ...]
    ruled_out: tuple[RuledOut, ...]

    def explain(self) -> dict[str, Any]:
        """For people and programs; holds nothing that the request said."""
        return {
            "label": self.features.label.word,
            "label_if_masked": self.features.masked.word,
            "ranked": [
                {"backend": one.name, "masked": one.masked, **one.parts} for one in self.ranked
            ],
            "ruled_out": [
                {"backend": one.name, "rule": one.rule, "why": one.why} for one in self.ruled_out
            ],
        }

    def refusal(self) -> Exception:
        """Why nobody answers. What could be changed by waiting comes before what the label forbids
        only where a backend that may see the data is there."""
        serving = [one for one in self.ruled_out if one.rule != "model"]
        if not serving:
            return ModelNotFound(f"The model {self.features.model!r} is not served here")
        for rule, refuse in _REFUSALS.items():
            if found := [one for one in serving if one.rule == rule]:
                return refuse(self.features, found)
        return _by_label(self.features, serving)


def rank(features: Features, views: Sequence[View], settings: RoutingSettings) -> Route:
    """All backends that may answer, the best first, and why each of the others may not.

    Independent of the order of `views`.
    """
    ranked, ruled_out = [], []
    for view in sorted(views, key=lambda one: one.name):
        broken = _broken_rule(features, view, settings)
        if broken is not None:
            ruled_out.append(broken)
        else:
            ranked.append(_candidate(features, view, settings))
    ranked.sort(key=lambda one: (one.score, one.name))
    return Route(features=features, ranked=tuple(ranked), ruled_out=tuple(ruled_out))


def _broken_rule(features: Features, view: View, settings: RoutingSettings) -> RuledOut | None:
    """The first rule that it breaks."""

    def out(rule: Rule, why: str, **more: Any) -> RuledOut:
        return RuledOut(name=view.name, rule=rule, why=why, **more)

    if not view.serves:
        return out("model", "it does not serve this model")
    if view.clearance < features.masked:
        return out(
            "label",
            f"the data is {features.masked.word}, it may see {view.clearance.word} at most",
        )
    if view.tier not in settings.tiers:
        return out("tier", f"tier {view.tier} is not allowed")
    if settings.regions and view.region not in settings.regions:
        return out("region", f"region {view.region or 'unknown'!r} is not allowed")
    if broken := _unfit(features, view, settings):
        return out(*broken[:2], param=broken[2])
    if not view.state.available:
        wait_s = view.state.retry_after_s
        return out("health", view.state.reason or "it is down", retry_after_s=wait_s)
    return None


def _unfit(
    features: Features, view: View, settings: RoutingSettings
) -> tuple[Rule, str, str | None] | None:
    """What of the request it could not do, or for what money: the rule, why, the parameter."""
    for need, param in features.needs.items():
        if need not in view.abilities:
            return "ability", f"it does not take {WORDS[need]}", param
    # This machine's own engine counts exactly, and says with numbers what does not fit.
    if view.tier != "device" and view.length and (features.max_tokens or 1) > view.length:
        return "context", f"it holds at most {view.length} tokens", "max_tokens"
    if view.price is None and settings.unknown_price == "refuse":
        return "price", "nobody knows its price", None
    money = _money(features, view)
    if settings.most_money is not None and money > settings.most_money * 1e6:
        return "money", f"it may cost {money} micro-dollars, more than is allowed", None
    return None


def _money(features: Features, view: View) -> int:
    """Micro-dollars that it may cost at most."""
    if view.price is None:
        return 0
    answer = view.answer_tokens if features.max_tokens is None else features.max_tokens
    return view.price.most(features.prompt_tokens, answer * features.answers)


def _candidate(features: Features, view: View, settings: RoutingSettings) -> Candidate:
    state = view.state
    money = _money(features, view)
    load = state.in_flight / max(1, state.most_in_flight)
    first_s = UNKNOWN_FIRST_TOKEN_S if state.first_token_s is None else state.first_token_s
    joules = view.energy_j_per_token
    parts: dict[str, float | int | None] = {
        "tier": settings.tiers.index(view.tier),
        "money": money,
        "first_token_s": round(first_s, 4),
        "joules_per_token": joules,
        "load": round(load, 4),
        "share": round(state.share, 3),
    }
    main: dict[Objective, float] = {
        "near": parts["tier"] or 0,
        "cost": money,
        # A backend that has recovered gets little at first; one that is loaded takes longer.
        "first_token": first_s * (1 + load) / max(state.share, 0.05),
        "energy": float("inf") if joules is None else joules,
        "quality": 0.0,  # all of them have the same model
    }
    masked = view.clearance < features.label
    rest = (parts["tier"] or 0, money, load / max(state.share, 0.05), first_s)
    # Of two that are as good, the one that sees the data as it is answers better.
    score = (main[settings.objective], float(masked), *rest)
    return Candidate(name=view.name, masked=masked, score=score, parts=parts)


def _down(features: Features, found: Sequence[RuledOut]) -> Exception:
    waits = [one.retry_after_s for one in found if one.retry_after_s is not None]
    said = "; ".join(f"{one.name}: {one.why}" for one in found)
    return BackendError(
        f"No backend that may answer for {features.model!r} does now ({said})",
        retry_after_s=min(waits, default=2.0),
    )


def _unable(features: Features, found: Sequence[RuledOut]) -> Exception:
    param = found[0].param
    return RequestError(
        f"{param!r} is not supported by any backend that may answer for {features.model!r}: "
        f"{found[0].name}: {found[0].why}",
        hint="leave it out, or ask for another model",
        param=param,
    )


def _by_policy(features: Features, found: Sequence[RuledOut]) -> Exception:
    said = "; ".join(f"{one.name}: {one.why}" for one in found)
    hint = None
    if any(one.rule == "price" for one in found):
        hint = "give the backend prices in the policies, or set unknown_price = 'free' for routing"
    return RequestError(f"The policies leave no backend for {features.model!r} ({said})", hint=hint)


def _by_label(features: Features, found: Sequence[RuledOut]) -> Exception:
    said = "; ".join(f"{one.name}: {one.why}" for one in found)
    return LabelError(
        f"The data is {features.label.word}, and no backend of {features.model!r} may see that. "
        f"Nothing was sent ({said})",
        hint="ask for a model on this device or site, or take out what makes it "
        f"{features.label.word}",
    )


_REFUSALS: Final[dict[Rule, Callable[[Features, Sequence[RuledOut]], Exception]]] = {
    "health": _down,
    "ability": _unable,
    "context": _unable,
    "money": _by_policy,
    "price": _by_policy,
    "region": _by_policy,
    "tier": _by_policy,
}

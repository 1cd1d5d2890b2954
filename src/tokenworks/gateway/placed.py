"""A backend with all that the gateway must know of it before it asks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from tokenworks.accounts.prices import FREE, Price, PriceBook, price_of
from tokenworks.gateway.backend import Backend, BackendStatus, Completion, Tier
from tokenworks.gateway.failover import Resumption
from tokenworks.gateway.labels import Label
from tokenworks.gateway.upstream.backend import UpstreamBackend
from tokenworks.gateway.upstream.health import BackendState
from tokenworks.gateway.upstream.settings import Prices, UpstreamSettings

Pricing = Callable[[str, float], Price | None]
"""The price of a model (by our name of it) at a time in Unix seconds; None: nobody knows it."""

OUTPUT_BOUND: Final = 4096
"""Tokens that an answer is reckoned to have at most where neither request nor backend says."""


def _free(model: str, at: float) -> Price:
    return FREE


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """`name` is unique. `engine` names what computes: two of the same name give the same answer to
    the same request, seed included; empty: nobody else's."""

    name: str
    backend: Backend
    tier: Tier = "device"
    clearance: Label = Label.SECRET
    abilities: frozenset[str] = frozenset()
    pricing: Pricing = _free
    region: str = ""
    engine: str = ""
    continues: bool = False
    context_length: int = 0  # 0: as its status says, or not known
    answer_tokens: int = OUTPUT_BOUND
    energy_j_per_token: float | None = None
    _served: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._served.update({model.casefold(): model for model in self.backend.models})

    def serves(self, model: str) -> bool:
        return model.casefold() in self._served

    def length(self) -> int:
        """Tokens of prompt and answer together; 0 if that is not known."""
        if self.context_length or isinstance(self.backend, UpstreamBackend):
            return self.context_length
        return int(self.backend.status().details.get("context_length", 0))

    def resumption(self, of: str, engine: str) -> Resumption:
        """What it can do about an answer that the backend `of`, of that engine, began."""
        if of and (of == self.name or (engine and engine == self.engine)) and self.engine:
            return "replay"
        return "continue" if self.continues else "none"

    def state(self) -> BackendState:
        if isinstance(self.backend, UpstreamBackend):
            return self.backend.state()
        return _state_of(self.name, self.tier, self.backend.status())

    def bounded(self, request: Completion) -> Completion:
        """The request as it is sent: where tokens cost money, an answer has an end."""
        if request.max_tokens is not None or self.pricing is _free:
            return request
        return replace(request, max_tokens=self.answer_tokens)

    def bound(self, request: Completion, prompt_tokens: int) -> int:
        """The most tokens that its answers to this request are reckoned to have together."""
        most = self.bounded(request).max_tokens
        if most is None:
            length = self.length()
            most = max(self.answer_tokens, length - prompt_tokens) if length else self.answer_tokens
            most = min(most, length) if length else most
        return most * request.n


def own(backend: Backend) -> Placed:
    """This machine's own engine: it may see everything, and costs nobody a bill."""
    name = backend.models[0] if backend.models else "device"
    return Placed(
        name=f"device:{name}",
        backend=backend,
        abilities=backend.abilities,
        engine=f"device:{name}",
        continues=True,
    )


def upstream(backend: UpstreamBackend, book: PriceBook) -> Placed:
    """One that is reached by HTTP, as the policies say."""
    settings = backend.settings
    return Placed(
        name=settings.name,
        backend=backend,
        tier=settings.tier,
        clearance=settings.label(),
        abilities=backend.abilities,
        pricing=_pricing(settings, book),
        region=settings.region,
        engine=settings.engine,
        continues=settings.continues != "no",
        context_length=settings.context_length,
        answer_tokens=settings.answer_tokens,
        energy_j_per_token=settings.energy_j_per_token,
    )


def _pricing(settings: UpstreamSettings, book: PriceBook) -> Pricing:
    if settings.prices is not None:
        price = _own_price(settings.prices)
        return lambda model, at: price
    if settings.tier != "cloud":
        return _free
    theirs: Mapping[str, str] = {a.casefold(): b for a, b in settings.models.items()}
    return lambda model, at: book.price(settings.url, theirs[model.casefold()], at)


def _own_price(prices: Prices) -> Price:
    def text(amount: Decimal | None) -> str | None:
        return None if amount is None else str(amount)

    return price_of(
        input=str(prices.input), output=str(prices.output), cached=text(prices.cached_input)
    )


def _state_of(name: str, tier: Tier, status: BackendStatus) -> BackendState:
    """How an engine of ours is. It is asked even when it is down: it says best itself why it does
    not answer, and requests wait for one that is being restarted."""
    running = int(status.details.get("running", 0)) + int(status.details.get("waiting", 0))
    return BackendState(
        name=name,
        tier=tier,
        phase="closed",
        available=True,
        reason="" if status.state == "ready" else status.reason or status.state,
        in_flight=running,
        most_in_flight=int(status.details.get("max_sequences", 0)) or 64,
        share=1.0,
        error_rate=0.0,
        first_token_s=None,
        inter_token_s=None,
        age_s=None,
        retry_after_s=None,
        draining=False,
    )

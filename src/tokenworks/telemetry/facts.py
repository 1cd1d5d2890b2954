"""What is told of a request and of each attempt to answer it, once they are over. Holds no text of
either, but for `Content` where somebody asked for that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tokenworks.telemetry.trace import TraceContext

Operation = Literal["chat", "text_completion", "embeddings"]
"""As OpenTelemetry names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """As in `gateway.backend.Usage`: cached ones are part of the prompt's."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a request said and was answered, for whoever may see data of its label."""

    messages: Sequence[Mapping[str, Any]]
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One attempt of a request, in short. Money in micro-units."""

    backend: str
    failed: bool = False
    resumed: str = ""  # how it went on with another one's answer
    overtaken: bool = False  # it was asked together with another one, which spoke first
    money: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFact:
    """A request that is over. `began` in Unix seconds, durations in seconds, energy in joules.

    `ruled_out` are backends with the rule that kept the request from them. `error` is a kind of
    error, never its message: that may quote the request.
    """

    request_id: str
    trace: TraceContext | None
    operation: Operation
    model: str
    label: str
    tenant: str
    status: str
    began: float
    took_s: float
    error: str = ""
    backend: str = ""
    first_token_s: float | None = None
    tokens: Tokens = field(default_factory=Tokens)
    money: int = 0
    energy_j: float | None = None
    asked: tuple[Asked, ...] = ()
    ruled_out: tuple[tuple[str, str], ...] = ()
    route: Mapping[str, Any] = field(default_factory=dict)
    content: Content | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFact:
    """A question to one backend that is over. Units as in `RequestFact`.

    `address` and `port` are empty for this machine's own engine; `their_model` is what the backend
    calls the model. `tokens` None: the backend did not say.
    """

    request_id: str
    trace: TraceContext
    operation: Operation
    backend: str
    tier: str
    provider: str
    model: str
    their_model: str
    began: float
    took_s: float
    outcome: Literal["answered", "failed", "cancelled"]
    error: str = ""
    status: int = 0
    address: str = ""
    port: int = 0
    resumed: bool = False
    first_chunk_s: float | None = None
    tokens: Tokens | None = None
    finish_reasons: tuple[str, ...] = ()


class Traces(Protocol):
    """Who passes facts on. Returns at once, and never fails."""

    @property
    def wants_content(self) -> bool: ...

    @property
    def dropped(self) -> int:
        """Facts that were told to nobody."""
        ...

    def request(self, fact: RequestFact) -> None: ...

    def attempt(self, fact: AttemptFact) -> None: ...

"""The boundary between the gateway and whoever answers: one request in, a stream of text out."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token as text and raw bytes (a token may be part of a character), with its natural-log probability."""

    text: str
    raw: bytes
    logprob: float
    alternatives: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One request, already validated. Exactly one of `messages` and `prompt` is given.

    `prompt` is text or token ids. `stop` are strings that end the answer and are not part of it.
    """

    request_id: str
    model: str
    messages: list[dict[str, Any]] | None = None
    prompt: str | list[int] | None = None
    max_tokens: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of an answer. `text` never ends inside a character and may be empty.

    The last chunk, and only it, has `finish_reason` and `usage`.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStatus:
    """`state` is what a person wants to know; `details` goes to `/health` and `/metrics`."""

    state: Literal["starting", "ready", "restarting", "failed", "stopped"]
    details: dict[str, float | int | str] = field(default_factory=dict)


class Backend(Protocol):
    """Who answers a request: this machine's engine worker; later, other nodes and clouds."""

    @property
    def models(self) -> tuple[str, ...]: ...

    def status(self) -> BackendStatus: ...

    def stream(self, request: Completion) -> AsyncIterator[Chunk]:
        """Answer. Raises RequestError before the first chunk if the request cannot be served.

        Closing the iterator early cancels the work behind it.
        """
        ...

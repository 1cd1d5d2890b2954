"""The boundary between the gateway and whoever answers: one request in, a stream of text out."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
Tier = Literal["device", "edge", "site", "cloud"]
"""Where a backend stands: on this machine, near it, on the owner's premises, or anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token with its natural-log probability; its bytes may be only a part of a character.

    The first token of a prompt has none: nothing goes before it.
    """

    text: str
    raw: bytes
    logprob: float | None
    alternatives: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One request, already validated. Exactly one of `messages` and `prompt` is given.

    `prompt` is text or token ids. `stop` are strings that end the answer and are not part of it.
    `n` answers are wanted, each with a seed derived from `seed`. `echo` puts the prompt before
    each, with its log-probabilities if `logprobs` are asked for; only then may `max_tokens` be 0.
    The penalties, biases and `min_tokens` are those of `inference.messages.Sampling`; before
    `min_tokens` tokens, stop strings do not end the answer either. `template_options` are further
    variables for the chat template. `priority`, from -10 to 10, orders requests; `deadline_s` is
    how many seconds the first text may take.

    A message is one of OpenAI's chat API: `content` is text, or parts for a backend that takes
    images; it may call tools or answer a call. `further` are parameters of that API which only some
    backends know (`tools`, `response_format` ...), passed on as they are.
    `begun` is the beginning of the answer, which another backend wrote: only the rest is wanted.

    Computed work is shared with requests of the same `tenant` only, but for the first
    `public_prefix` messages, characters of the prompt, or tokens where it is given in tokens.
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
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0
    n: int = 1
    echo: bool = False
    priority: int = 0
    deadline_s: float | None = None
    template_options: Mapping[str, object] = field(default_factory=dict)
    further: Mapping[str, object] = field(default_factory=dict)
    begun: str = ""
    tenant: str = ""
    public_prefix: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one request: its prompt once, all of its answers together.

    `cached_tokens` of the prompt were not computed again, `reasoning_tokens` of the answer are not
    shown.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallPiece:
    """A piece of tool call number `index` of an answer: the first has `id` and `name`, each adds
    to `arguments`, which are JSON when joined."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of answer number `index`. `text` never ends inside a character and may be empty.

    The last chunk of each answer, and only it, has `finish_reason`; the last of all has `usage`.
    `tokens` is how many generated tokens this piece accounts for (several while characters or stop
    strings were incomplete; none for an echo of the prompt). `reasoning` is text that goes before
    the answer, where a backend shows any. `restarted`: what came before this chunk does not count.
    """

    text: str
    index: int = 0
    tokens: int = 0
    reasoning: str = ""
    tool_calls: tuple[ToolCallPiece, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    restarted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStatus:
    """`state` and `reason` are for people; `details` goes to `/health` and `/metrics`."""

    state: Literal["starting", "ready", "restarting", "failed", "stopped"]
    reason: str = ""
    details: dict[str, float | int | str] = field(default_factory=dict)


class Backend(Protocol):
    """Who answers a request: this machine's engine worker; later, other nodes and clouds.

    `start` returns once requests can be answered, or raises EngineError. After `close`, which may
    be called at any time, running streams end with EngineError.
    """

    @property
    def models(self) -> tuple[str, ...]: ...

    @property
    def abilities(self) -> frozenset[str]:
        """What it can beside plain text: see `gateway.needs`."""
        ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def status(self) -> BackendStatus: ...

    def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
        """Answer. Raises RequestError before the first chunk if the request cannot be served.

        Closing the generator early cancels the work behind it.
        """
        ...

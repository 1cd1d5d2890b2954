"""What an engine worker and its client say to each other: msgpack, tokens only, never text.

On the socket each message is a 4-byte big-endian length, then its msgpack (see `framing`). A
message carries its type in the field `type`.
"""

from typing import Literal

import msgspec

FinishReason = Literal["stop", "length"]

EXIT_PROTOCOL = 70
"""A worker's exit code after a message that made no sense (EX_SOFTWARE of sysexits.h)."""

EXIT_CANNOT_SERVE = 78
"""Its exit code when these settings or this model will never work (EX_CONFIG): do not retry."""


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are chosen. The same seed, prompt and model give the same tokens, always.

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1 and `min_p` 0 switch those filters off.
    `logprobs` is the number of alternatives to report per token; None reports nothing.

    `presence_penalty` and `frequency_penalty` (0 is off) are subtracted from the logits of tokens
    that the answer has, the second once per occurrence. `repetition_penalty` (1 is off) divides
    positive and multiplies negative logits of tokens that the prompt or the answer has.
    `logit_bias` holds (token, what is added to its logit). No stop token is chosen before
    `min_tokens` tokens.
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    stop_tokens: tuple[int, ...] = ()
    logprobs: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0


class Sibling(msgspec.Struct, frozen=True, kw_only=True):
    """One more answer to the same prompt, with an id and a seed of its own."""

    request_id: str
    seed: int
    generated: list[int] = []


class Generate(msgspec.Struct, frozen=True, kw_only=True, tag="generate", tag_field="type"):
    """Continue `prompt`. `generated` holds tokens of this very answer that were already delivered
    (by a worker that died): they count towards `max_tokens` and are not sent again.

    `siblings` are computed beside it and share the prompt's pages; all are taken or none. `begun`
    says that a part of what was asked is delivered already: then it waits, however full the queue.
    `score_prompt` asks for the log-probabilities of the prompt's tokens, which come before any
    token of the answers.

    What is computed is shared with requests of the same `tenant` only, but for the whole pages of
    the prompt's first `public_tokens`: those are shared with all requests that say the same of
    them. Tenants that ask at the same time are given equally many rows. `priority`, from -10 to 10:
    of one tenant's requests, higher ones go first. `deadline_s`: how many seconds from now the
    first token may take; a request that was begun has none.
    """

    request_id: str
    prompt: list[int]
    sampling: Sampling
    generated: list[int] = []
    siblings: list[Sibling] = []
    begun: bool = False
    score_prompt: bool = False
    tenant: str = ""
    priority: int = 0
    deadline_s: float | None = None
    public_tokens: int = 0


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag="cancel", tag_field="type"):
    """Forget this request; nothing more is sent for it. Unknown ids are ignored."""

    request_id: str


class Alternative(msgspec.Struct, frozen=True, array_like=True):
    token: int
    logprob: float


class Token(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One generated token. `logprob` and `alternatives` come only if asked for.

    `finish_reason` is set on a request's last token. A stop token ends with "stop" and is itself
    delivered (the client does not show it).
    """

    request_id: str
    token: int
    finish_reason: FinishReason | None = None
    logprob: float | None = None
    alternatives: tuple[Alternative, ...] = ()
    cached_tokens: int | None = None  # on the first token: prompt tokens whose KV was reused


class Score(msgspec.Struct, frozen=True, array_like=True):
    """How likely a token of the prompt was after those before it, and what was likeliest there."""

    logprob: float
    alternatives: tuple[Alternative, ...] = ()


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of consecutive prompt tokens, the first of them for token number `start`, from 1 on:
    nothing goes before the first token, so it has no score.
    """

    request_id: str
    start: int
    scores: list[Score]


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A request that ends without the rest of its answer: the model computed no usable numbers, or
    its deadline cannot be met any more."""

    request_id: str
    message: str
    reason: Literal["numbers", "deadline"] = "numbers"


class Step(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="step", tag_field="type"
):
    """The tokens and scores that one forward produced, and the engine's load after it. `guessed`:
    tokens that were guessed and verified since the engine started, `guessed_right` of them right;
    `preempted`: how often since then a request gave way to another and waited again.
    """

    tokens: list[Token]
    scores: list[Scores] = []
    failed: list[Failed] = []
    running: int
    waiting: int
    pages_used: int
    guessed: int = 0
    guessed_right: int = 0
    preempted: int = 0


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused", tag_field="type"):
    """This request was not admitted. `queue_full` and `deadline` carry `retry_after_s`."""

    request_id: str
    reason: Literal["queue_full", "deadline", "too_long", "invalid"]
    message: str
    retry_after_s: float | None = None


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready", tag_field="type"):
    """First message of a worker: what it serves and on what."""

    model: str
    executor: str  # for people, e.g. "native avx2, 2 threads"
    context_length: int  # most tokens of one request, prompt and answer
    model_length: int  # what that would be if only the KV memory were large enough
    pages_total: int
    max_sequences: int


ToWorker = Generate | Cancel
FromWorker = Ready | Step | Refused

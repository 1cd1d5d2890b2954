"""One answer from several backends: the next one goes on where one broke off."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from tokenworks.errors import (
    BackendError,
    BackendLost,
    ContextLengthError,
    EngineError,
    RequestError,
)
from tokenworks.gateway.backend import Chunk, Completion, Usage
from tokenworks.gateway.resuming import Continuation, Diverged, Joint, Replay

logger = logging.getLogger(__name__)

Resumption = Literal["replay", "continue", "none"]
"""What a backend can do about an answer that another one began: give it again from the beginning,
because it is a function of the request; go on from its text; or neither."""

WhenBroken = Literal["error", "restart"]
"""What becomes of an answer that none can go on with, once some of it was sent."""


class Streams(Protocol):
    """As much of a backend as failing over takes."""

    def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]: ...


# What another backend may do better. Of requests too: backends differ in what they take.
_FAILURES = (BackendError, EngineError, RequestError, Diverged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A backend to ask, with the request as it may see it.

    `resumption(of)` is what it can do about an answer of the backend named `of`; one that several
    backends wrote is nobody's, and `of` empty. `before_more` is awaited before this backend is
    asked where an earlier one may have cost something. `may_see` says whether the backend may be
    shown what others have answered.
    """

    name: str
    backend: Streams
    request: Completion
    resumption: Callable[[str], Resumption] = lambda of: "none"
    before_more: Callable[[], Awaitable[None]] | None = None
    may_see: Callable[[str], bool] = lambda text: True


@dataclass(slots=True)
class Tried:
    """How one attempt went; `error` is empty for the one that ended well.

    `overtaken`: it was asked together with another one, which spoke first, and then cancelled.
    """

    name: str
    error: str = ""
    resumed: str = ""  # "replay", "continue" or "restart", if it went on with another's answer
    usage: Usage | None = None
    tokens: int = 0
    overtaken: bool = False

    @property
    def reached(self) -> bool:
        """Whether it may have cost something: one that was left alone had read its prompt."""
        return self.usage is not None or self.tokens > 0 or not self.error


@dataclass(slots=True)
class Outcome:
    """What happened, for the record: filled while the answer is streamed."""

    tried: list[Tried] = field(default_factory=list)


async def answer(
    attempts: Sequence[Attempt],
    outcome: Outcome,
    *,
    when_broken: WhenBroken = "error",
) -> AsyncGenerator[Chunk, None]:
    """Stream the answer of the first backend that has one.

    What failed before anything was sent goes to the next attempt unseen. Of an answer that broke
    off later, the next one adds what is missing. Where it cannot, the answer begins again with a
    chunk marked `restarted` ("restart"), or ends in BackendLost ("error").

    Raises what was wrong with the request if a backend said so, else what the last attempt raised.
    """
    sent, left = _Sent(), list(attempts)
    errors: list[Exception] = []
    while attempt := _next(left, sent, when_broken):
        left.remove(attempt)
        if attempt.before_more is not None and any(one.reached for one in outcome.tried):
            await attempt.before_more()
        tried = Tried(attempt.name)
        outcome.tried.append(tried)
        try:
            async with aclosing(_one(attempt, tried, sent)) as chunks:
                async for chunk in chunks:
                    sent.add(tried.name, chunk)
                    yield chunk
            return
        except _FAILURES as error:
            tried.error = recorded(error)
            errors.append(error)
            logger.warning("%s: %s", attempt.name, tried.error)
    raise _told(errors, sent) from None


def recorded(error: BaseException) -> str:
    """For the log and the ledger. What is wrong with a request is for whoever sent it alone: a
    backend's words about it may repeat what it says."""
    if type(error) in (RequestError, ContextLengthError):
        param = getattr(error, "param", None)
        return f"it refuses this request, for its {param}" if param else "it refuses this request"
    return str(getattr(error, "message", "gave another answer"))


def _told(errors: Sequence[Exception], sent: "_Sent") -> Exception:
    """What the client hears: of an answer that was begun that it broke off; else what is wrong with
    the request, if a backend said so, or how the last one failed."""
    last = errors[-1]
    if not sent.anything:
        at_fault = (one for one in errors if type(one) in (RequestError, ContextLengthError))
        return next(at_fault, last)
    if isinstance(last, EngineError | BackendLost):
        return last
    why = f": {last.message}" if isinstance(last, BackendError) else ""
    return BackendLost(f"The answer broke off, and no backend could go on with it{why}")


def _next(left: Sequence[Attempt], sent: "_Sent", when_broken: WhenBroken) -> Attempt | None:
    """The first; of an answer that was begun the first that can go on with it, or begin again."""
    if not sent.anything:
        return left[0] if left else None
    able = next((one for one in left if _resumption(one, sent) != "none"), None)
    return able or (left[0] if left and when_broken == "restart" else None)


def _resumption(attempt: Attempt, sent: "_Sent") -> Resumption:
    if not sent.is_text_alone or not attempt.may_see(sent.text):
        return "none"
    return attempt.resumption(sent.by)


async def _one(attempt: Attempt, tried: Tried, sent: "_Sent") -> AsyncGenerator[Chunk, None]:
    """One attempt's chunks, of which only what is new comes out."""
    request, joint = attempt.request, None
    if sent.anything:
        request, joint = _resumed(attempt, tried, sent)
        if tried.resumed == "restart":
            sent.forget()
            yield Chunk(text="", restarted=True)
        elif tried.resumed == "continue":
            sent.by = ""  # from here on it is no single backend's answer
    async with aclosing(attempt.backend.stream(request)) as chunks:
        async for chunk in chunks:
            tried.tokens += chunk.tokens
            if chunk.usage is not None:
                tried.usage = chunk.usage
            yield chunk if joint is None else _new_of(chunk, joint, sent)


def _resumed(attempt: Attempt, tried: Tried, sent: "_Sent") -> tuple[Completion, Joint | None]:
    """The request and what joins its answer to what was sent; None: it begins again."""
    how = _resumption(attempt, sent)
    if how == "none":
        tried.resumed = "restart"
        return attempt.request, None
    tried.resumed = how
    if how == "replay":
        return attempt.request, Replay(sent.text)
    shown = sent.text.rstrip()
    left = attempt.request.max_tokens
    request = replace(
        attempt.request,
        begun=shown,
        max_tokens=None if left is None else max(1, left - sent.tokens),
    )
    return request, Continuation(sent.text, sent.text[len(shown) :])


def _new_of(chunk: Chunk, joint: Joint, sent: "_Sent") -> Chunk:
    text = joint.feed(chunk.text)
    if chunk.finish_reason is not None:
        text += joint.end()
    usage = chunk.usage
    if usage is not None and isinstance(joint, Continuation):
        usage = replace(
            usage,
            prompt_tokens=max(0, usage.prompt_tokens - sent.tokens),
            completion_tokens=usage.completion_tokens + sent.tokens,
        )
    # Log-probabilities of another backend, or of text that was sent already, would mislead.
    return replace(chunk, text=text, logprobs=(), usage=usage)


class _Sent:
    """What the client has of the answer."""

    def __init__(self) -> None:
        self.by = ""
        self.tokens = 0
        self._pieces: list[str] = []
        self._other = False

    @property
    def anything(self) -> bool:
        return bool(self._pieces) or self._other

    @property
    def is_text_alone(self) -> bool:
        """Whether it is one answer's text: tool calls and several answers cannot be joined."""
        return not self._other

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def add(self, name: str, chunk: Chunk) -> None:
        if not self.anything:
            self.by = name
        self.tokens += chunk.tokens
        if chunk.text:
            self._pieces.append(chunk.text)
        if chunk.tool_calls or chunk.reasoning or chunk.index:
            self._other = True

    def forget(self) -> None:
        """The answer begins again."""
        self.by, self.tokens, self._other = "", 0, False
        self._pieces.clear()

"""What the dialects have in common: the call they make of a request, and the end of an answer."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from tokenworks.errors import BackendError, BackendLost, RequestError, TokenworksError
from tokenworks.gateway.backend import (
    Chunk,
    Completion,
    FinishReason,
    TokenLogprob,
    ToolCallPiece,
    Usage,
)
from tokenworks.gateway.needs import EVERYWHERE, WORDS, needs_of
from tokenworks.gateway.upstream.events import Event
from tokenworks.gateway.upstream.failures import failure_of
from tokenworks.gateway.upstream.settings import UpstreamSettings

BYTES_PER_TOKEN: Final = 4
"""Of English text, about: only where a backend does not count its prompt's tokens itself."""

CHARACTERS_PER_TOKEN: Final = 6
"""Of an answer, more than of any usual text. Some backends send many tokens in one event."""

MOST_TOOL_CALLS: Final = 1024
MOST_ANSWER: Final = 16 << 20
"""Characters of a request's answers together. No model writes as many; memory holds all of them."""

_SANE_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a backend is sent it: a path below its url, and JSON."""

    path: str
    body: bytes


class Answers(Protocol):
    """Turns the events of one reply into chunks.

    `finished`: every answer has its finish reason, so that nothing more than counts can come.
    `complete`: the last chunk was given; `estimated`: its usage is ours, for want of theirs.
    """

    @property
    def finished(self) -> bool: ...

    @property
    def complete(self) -> bool: ...

    @property
    def estimated(self) -> bool: ...

    def take(self, event: Event) -> Iterable[Chunk]:
        """Raises BackendError before the first chunk, BackendLost after it."""
        ...

    def end(self) -> Iterable[Chunk]:
        """What is left when the reply is over. Raises BackendLost if it broke off."""
        ...

    def broken(self, why: str) -> BackendError:
        """The error for a reply that breaks off here."""
        ...


class Dialect(Protocol):
    """An API of the field, in both directions. Pure."""

    def call(self, request: Completion, model: str) -> Call:
        """Raises RequestError for what cannot be said and would change the answer."""
        ...

    def answers(self, request: Completion) -> Answers: ...

    def key_fields(self, key: str) -> Mapping[str, str]:
        """The headers of every call; the key may be empty."""
        ...

    @property
    def models_path(self) -> str:
        """Where a cheap question is answered."""
        ...


class AnswersReader:
    """What the readers of all dialects have in common, as `Answers` but for `take`: counts the
    pieces of a request's answers and makes their last chunks, each with its reason, the last of all
    with usage."""

    def __init__(self, name: str, request: Completion) -> None:
        self.begun = False
        self.complete = False
        self.estimated = False  # usage is ours: the backend gave none
        self.usage: Usage | None = None
        self._name = name
        self._request = request
        self._open = set(range(request.n))
        self._counted = self._size = 0  # tokens, and characters
        self._last: Chunk | None = None

    @property
    def finished(self) -> bool:
        return not self._open

    def piece(
        self,
        index: int,
        text: str,
        reasoning: str = "",
        tool_calls: tuple[ToolCallPiece, ...] = (),
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> Chunk:
        """A chunk of an answer that goes on. Without log-probabilities it counts as one token, or
        as so many as its text takes at least: who leaves early pays for what has come.
        """
        if index not in self._open:
            raise self.nonsense("an answer that nobody asked for, or that was over")
        self.begun = True
        self._size += len(text) + len(reasoning) + sum(len(call.arguments) for call in tool_calls)
        if self._size > MOST_ANSWER:
            raise self.nonsense("more than an answer may have")
        tokens = len(logprobs) or max(1, self._size // CHARACTERS_PER_TOKEN - self._counted)
        self._counted += tokens
        return Chunk(
            text=text,
            index=index,
            tokens=tokens,
            reasoning=reasoning,
            tool_calls=tool_calls,
            logprobs=logprobs,
        )

    def finish(self, index: int, reason: FinishReason) -> Iterator[Chunk]:
        """The last chunk of this answer, unless it is the last of all and waits for `usage`."""
        if index not in self._open:
            raise self.nonsense("an answer that nobody asked for, or that was over")
        self.begun = True
        self._open.discard(index)
        chunk = Chunk(text="", index=index, finish_reason=reason)
        if self._open:
            yield chunk
        else:
            self._last = chunk

    def settle(self) -> Iterator[Chunk]:
        """The last chunk of all, once every answer is finished, with the usage known now."""
        if self.complete or self._last is None:
            return
        self.complete = True
        usage = self.usage
        if usage is None:
            self.estimated = True
            usage = Usage(prompt_tokens=prompt_size(self._request), completion_tokens=self._counted)
        tokens = max(0, usage.completion_tokens - self._counted)
        yield Chunk(
            text="",
            index=self._last.index,
            tokens=tokens,
            finish_reason=self._last.finish_reason,
            usage=usage,
        )

    def end(self) -> Iterator[Chunk]:
        if not self.finished:
            raise self.broken("its answer ended without a finish reason")
        yield from self.settle()

    def broken(self, why: str) -> BackendError:
        """The error for an answer that stops here: one that was begun can be gone on with."""
        kind = BackendLost if self.begun else BackendError
        return kind(f"The backend {self._name!r} broke off: {why}")

    def nonsense(self, what: str) -> BackendError:
        return self.broken(f"it sent {what}")

    def reported(self, error: object) -> TokenworksError:
        """What an error among the events means. Its text is not shown: it may hold the prompt."""
        fields = error if isinstance(error, dict) else {}
        code = fields.get("code")
        if type(code) is int and 400 <= code < 600 and not self.begun:
            return failure_of(self._name, code, {}, b"", unix_time=0.0)
        words = (fields.get("type"), code)
        known = [word for word in words if isinstance(word, str) and _SANE_WORD.fullmatch(word)]
        return self.broken(f"it reports an error ({', '.join(known) or 'of no kind'})")


def prompt_size(request: Completion) -> int:
    """About how many tokens a request's prompt has, images left out."""
    if isinstance(request.prompt, list):
        return len(request.prompt)
    texts = [request.prompt or ""]
    for message in request.messages or ():
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content or ""}]
        texts += [part["text"] for part in parts if "text" in part]
    return math.ceil(sum(len(text.encode()) for text in texts) / BYTES_PER_TOKEN)


def check_abilities(settings: UpstreamSettings, request: Completion) -> None:
    """Raises RequestError for what this backend is not known to be able to do. Which parameters
    beyond OpenAI's own it has, a dialect knows itself."""
    for need, param in needs_of(request).items():
        if need not in ("extended", *EVERYWHERE, *settings.abilities):
            raise RequestError(
                f"The backend {settings.name!r} cannot take {WORDS[need]}", param=param
            )


def refuse(settings: UpstreamSettings, param: str) -> RequestError:
    """For a parameter that would change the answer and cannot be passed on."""
    return RequestError(
        f"The backend {settings.name!r} has no parameter like {param!r}",
        hint="leave it out, or ask for a model of another backend",
        param=param,
    )


def cannot_continue(settings: UpstreamSettings) -> BackendError:
    return BackendError(f"The backend {settings.name!r} cannot go on with another one's answer")


def encoded(body: Mapping[str, Any]) -> bytes:
    """JSON. Raises RequestError for text that cannot be sent, such as half a surrogate pair."""
    try:
        return msgspec.json.encode(body)
    except (UnicodeEncodeError, ValueError, TypeError, RecursionError):
        raise RequestError("The request holds text or numbers that cannot be sent") from None

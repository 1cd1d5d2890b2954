"""From the events of OpenAI's streams to chunks. Pure.

Servers of this dialect differ: in where usage comes, in how reasoning is called, in whether tool
calls have numbers. What is read here is what all of them mean alike; anything else breaks off.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from tokenworks.gateway.backend import (
    Chunk,
    Completion,
    FinishReason,
    TokenLogprob,
    ToolCallPiece,
    Usage,
)
from tokenworks.gateway.upstream.dialect import MOST_TOOL_CALLS, AnswersReader
from tokenworks.gateway.upstream.events import Event

_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
}

_Count = Annotated[int, Meta(ge=0, le=2**40)]


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct):
    index: Annotated[int, Meta(ge=0, lt=MOST_TOOL_CALLS)] | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None  # DeepSeek, llama-server, SGLang
    reasoning: str | None = None  # vLLM, OpenRouter
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None


class _PromptDetails(Struct):
    cached_tokens: _Count | None = None


class _AnswerDetails(Struct):
    reasoning_tokens: _Count | None = None


class _Usage(Struct):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _AnswerDetails | None = None
    prompt_cache_hit_tokens: _Count | None = None  # DeepSeek


class _Event(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    object: str | None = None


_decode: Final = msgspec.json.Decoder(_Event).decode


class OpenAIAnswers(AnswersReader):
    def __init__(self, name: str, request: Completion) -> None:
        super().__init__(name, request)
        self._calls: dict[int, list[str]] = {}  # an answer's calls that came without a number

    def take(self, event: Event) -> list[Chunk]:
        if self.complete:
            return []
        if event.data == b"[DONE]":
            return list(self.end())
        read = self._read(event)
        chunks: list[Chunk] = []
        for choice in read.choices or ():
            self._add(choice, chunks)
        if read.usage is not None:
            self.usage = _usage(read.usage)
            chunks += self.settle()
        return chunks

    def _read(self, event: Event) -> _Event:
        try:
            read = _decode(event.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self.nonsense("an event that cannot be read") from None
        if read.error is not None or event.name == b"error" or read.object == "error":
            raise self.reported(read.error)
        return read

    def _add(self, choice: _Choice, chunks: list[Chunk]) -> None:
        delta = choice.delta
        calls: tuple[ToolCallPiece, ...] = ()
        if delta is None:
            text, reasoning = choice.text or "", ""
        else:
            text = (delta.content or "") + (delta.refusal or "")
            reasoning = delta.reasoning_content or delta.reasoning or ""
            if delta.tool_calls:
                calls = self._pieces(choice.index, delta.tool_calls)
        if text or reasoning or calls or choice.logprobs:
            logprobs = _logprobs(choice.logprobs) if choice.logprobs else ()
            if text or reasoning or calls or logprobs:
                piece = self.piece(choice.index, text, reasoning, calls, logprobs)
                chunks.append(piece)
        if choice.finish_reason:
            reason = _REASONS.get(choice.finish_reason)
            if reason is None:
                raise self.nonsense("a finish reason that says that it failed")
            chunks += self.finish(choice.index, reason)

    def _pieces(self, answer: int, calls: list[_ToolCall]) -> tuple[ToolCallPiece, ...]:
        return tuple(
            ToolCallPiece(
                index=self._number(answer, call) if call.index is None else call.index,
                id=call.id or "",
                name=(call.function.name or "") if call.function else "",
                arguments=(call.function.arguments or "") if call.function else "",
            )
            for call in calls
        )

    def _number(self, answer: int, call: _ToolCall) -> int:
        """A call without a number is known by its id; one without either goes on with the last."""
        known = self._calls.setdefault(answer, [])
        if call.id and call.id not in known:
            if len(known) >= MOST_TOOL_CALLS:
                raise self.nonsense("more tool calls than an answer has")
            known.append(call.id)
        return known.index(call.id) if call.id else max(0, len(known) - 1)


def _usage(said: _Usage) -> Usage:
    prompt, answer = said.prompt_tokens_details, said.completion_tokens_details
    cached = (prompt.cached_tokens if prompt else None) or said.prompt_cache_hit_tokens or 0
    total, made = said.prompt_tokens or 0, said.completion_tokens or 0
    return Usage(
        prompt_tokens=total,
        completion_tokens=made,
        cached_tokens=min(cached, total),
        reasoning_tokens=min((answer.reasoning_tokens if answer else None) or 0, made),
    )


def _logprobs(said: dict[str, Any]) -> tuple[TokenLogprob, ...]:
    """Of a chat, or of a completion; none where a server has another shape."""
    try:
        if "tokens" in said:
            return tuple(_old_logprobs(said))
        return tuple(
            _token(one, tuple(_token(other) for other in one.get("top_logprobs") or ()))
            for one in said.get("content") or ()
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        return ()


def _token(one: dict[str, Any], alternatives: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    raw = one.get("bytes")
    return TokenLogprob(
        text=str(one["token"]),
        raw=bytes(raw) if isinstance(raw, list) else str(one["token"]).encode(),
        logprob=float(one["logprob"]),
        alternatives=alternatives,
    )


def _old_logprobs(said: dict[str, Any]) -> Iterator[TokenLogprob]:
    tops = said.get("top_logprobs") or [None] * len(said["tokens"])
    for token, logprob, top in zip(said["tokens"], said["token_logprobs"], tops, strict=True):
        others = sorted((top or {}).items(), key=lambda pair: -pair[1])
        yield TokenLogprob(
            text=token,
            raw=token.encode(),
            logprob=logprob,
            alternatives=tuple(
                TokenLogprob(text=other, raw=other.encode(), logprob=value)
                for other, value in others
            ),
        )

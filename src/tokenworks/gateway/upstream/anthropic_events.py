"""From the events of Anthropic's streams to chunks. Pure."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from tokenworks.gateway.backend import Chunk, Completion, FinishReason, ToolCallPiece, Usage
from tokenworks.gateway.upstream.dialect import MOST_TOOL_CALLS, AnswersReader
from tokenworks.gateway.upstream.events import Event

_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

_Count = Annotated[int, Meta(ge=0, le=2**40)]


class _AnswerDetails(Struct):
    thinking_tokens: _Count | None = None


class _Usage(Struct):
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    output_tokens_details: _AnswerDetails | None = None


class _Message(Struct):
    usage: _Usage | None = None


class _Block(Struct):
    type: str = ""
    id: str = ""
    name: str = ""
    text: str = ""


class _Delta(Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(Struct):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Event).decode


class AnthropicAnswers(AnswersReader):
    def __init__(self, name: str, request: Completion) -> None:
        super().__init__(name, request)
        self._calls: dict[int, int] = {}  # content block → number of the tool call in it
        self._without_arguments: set[int] = set()  # content blocks of tool calls, so far
        self._counts = _Usage()

    def take(self, event: Event) -> Iterator[Chunk]:
        if self.complete:
            return
        try:
            read = _decode(event.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self.nonsense("an event that cannot be read") from None
        if read.type.startswith("content_block_"):
            yield from self._block(read)
        elif read.type.startswith("message_"):
            yield from self._message(read)
        elif read.type == "error":
            raise self.reported(read.error)
        # Others, such as pings, say nothing of the answer; new ones may come at any time.

    def _message(self, read: _Event) -> Iterator[Chunk]:
        self._count(read.message.usage if read.message is not None else read.usage)
        if read.delta is not None and read.delta.stop_reason is not None:
            yield from self._finish(read.delta.stop_reason)
        if read.type == "message_stop":
            yield from self.end()

    def _block(self, read: _Event) -> Iterator[Chunk]:
        if read.type == "content_block_delta":
            yield from self._piece(read)
        elif read.type == "content_block_start":
            yield from self._start(read)
        elif read.index in self._without_arguments:  # it stops
            yield self._arguments(read.index, "{}")

    def _start(self, read: _Event) -> Iterator[Chunk]:
        block = read.content_block
        if block is None:
            return
        if block.type == "tool_use":
            number = self._calls.setdefault(read.index, len(self._calls))
            if number >= MOST_TOOL_CALLS:
                raise self.nonsense("more tool calls than an answer has")
            self._without_arguments.add(read.index)
            piece = ToolCallPiece(index=number, id=block.id, name=block.name)
            yield self.piece(0, "", tool_calls=(piece,))
        elif block.type == "text" and block.text:
            yield self.piece(0, block.text)

    def _piece(self, read: _Event) -> Iterator[Chunk]:
        delta = read.delta
        if delta is None:
            return
        if delta.type == "text_delta" and delta.text:
            yield self.piece(0, delta.text)
        elif delta.type == "thinking_delta" and delta.thinking:
            yield self.piece(0, "", delta.thinking)
        elif delta.type == "input_json_delta" and delta.partial_json and read.index in self._calls:
            yield self._arguments(read.index, delta.partial_json)

    def _arguments(self, block: int, text: str) -> Chunk:
        self._without_arguments.discard(block)
        piece = ToolCallPiece(index=self._calls[block], arguments=text)
        return self.piece(0, "", tool_calls=(piece,))

    def _finish(self, stop_reason: str) -> Iterator[Chunk]:
        reason = _REASONS.get(stop_reason)
        if reason is None:
            raise self.nonsense("a stop reason that no answer of ours can have")
        if not self.finished:
            yield from self.finish(0, reason)

    def _count(self, said: _Usage | None) -> None:
        """Counts are totals: a later one takes the place of an earlier one, if it is given."""
        if said is None:
            return
        counts = self._counts
        for name in said.__struct_fields__:
            if (value := getattr(said, name)) is not None:
                setattr(counts, name, value)
        cached = counts.cache_read_input_tokens or 0
        prompt = (counts.input_tokens or 0) + (counts.cache_creation_input_tokens or 0) + cached
        details, made = counts.output_tokens_details, counts.output_tokens or 0
        self.usage = Usage(
            prompt_tokens=prompt,
            completion_tokens=made,
            cached_tokens=cached,
            reasoning_tokens=min((details.thinking_tokens if details else None) or 0, made),
        )

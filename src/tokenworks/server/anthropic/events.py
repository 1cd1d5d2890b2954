"""An answer in the shape of Anthropic's API: whole, and as its stream of named events."""

from typing import Any, Final

from msgspec import json

from tokenworks.errors import BackendLost
from tokenworks.gateway.backend import Chunk, FinishReason, Usage
from tokenworks.server.answer import Answer
from tokenworks.server.replies import Failure

STOP_REASONS: Final[dict[FinishReason, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def message_json(identity: str, model: str, answer: Answer, usage: Usage) -> dict[str, object]:
    content: list[dict[str, object]] = []
    if answer.reasoning:
        content.append({"type": "thinking", "thinking": "".join(answer.reasoning), "signature": ""})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    for _, call in sorted(answer.tool_calls.items()):
        given = input_of("".join(call.arguments))
        content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
    return {
        **_head(identity, model),
        "content": content,
        "stop_reason": STOP_REASONS[answer.finish_reason],
        "usage": usage_json(usage),
    }


def input_of(arguments: str) -> object:
    """A call's arguments as an object; what a model wrote that is no JSON is kept as text."""
    try:
        return json.decode(arguments or "{}")
    except ValueError:
        return {"arguments": arguments}


def usage_json(usage: Usage) -> dict[str, int]:
    """Input apart by whether it was read from a cache, as Anthropic counts it."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
    }


class MessageEvents:
    """One stream. Blocks come one after the other: a piece of another kind begins the next one."""

    def __init__(self, identity: str, model: str) -> None:
        self._identity, self._model = identity, model
        self._index = -1
        self._open: tuple[str, int] | None = None  # kind of the open block, and its call's number

    def opening(self) -> bytes:
        start = {
            **_head(self._identity, self._model),
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        return _event({"type": "message_start", "message": start})

    def piece(self, chunk: Chunk) -> bytes:
        data = b""
        if chunk.restarted:
            raise BackendLost("The answer broke off, and this API cannot say that it begins again")
        if chunk.reasoning:
            data += self._within(("thinking", 0), {"type": "thinking", "thinking": ""})
            data += self._delta({"type": "thinking_delta", "thinking": chunk.reasoning})
        if chunk.text:
            data += self._within(("text", 0), {"type": "text", "text": ""})
            data += self._delta({"type": "text_delta", "text": chunk.text})
        for call in chunk.tool_calls:
            begin: dict[str, object] = {
                "type": "tool_use",
                "id": call.id,
                "name": call.name,
                "input": {},
            }
            data += self._within(("tool_use", call.index), begin)
            if call.arguments:
                delta = {"type": "input_json_delta", "partial_json": call.arguments}
                data += self._delta(delta)
        return data + self._end(chunk)

    def closing(self) -> bytes:
        return _event({"type": "message_stop"})

    def failure(self, failure: Failure) -> bytes:
        return _event(failure.as_anthropic())

    def _within(self, block: tuple[str, int], begin: dict[str, object]) -> bytes:
        """What begins this block, if another one or none is open."""
        if self._open == block:
            return b""
        data = self._closed()
        self._index += 1
        self._open = block
        start = {"type": "content_block_start", "index": self._index, "content_block": begin}
        return data + _event(start)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _closed(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _event({"type": "content_block_stop", "index": self._index})

    def _end(self, chunk: Chunk) -> bytes:
        if chunk.finish_reason is None:
            return b""
        delta = {"stop_reason": STOP_REASONS[chunk.finish_reason], "stop_sequence": None}
        usage = chunk.usage or Usage(prompt_tokens=0, completion_tokens=0)
        end = {"type": "message_delta", "delta": delta, "usage": usage_json(usage)}
        return self._closed() + _event(end)


def _head(identity: str, model: str) -> dict[str, object]:
    return {
        "id": f"msg_{identity}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "stop_sequence": None,
    }


def _event(body: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (body["type"].encode(), json.encode(body))

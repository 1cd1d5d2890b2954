"""What the upstream server of the tests says: OpenAI's and Anthropic's replies, from a script."""

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

MODEL = "their-model"
CREATED = 1_700_000_000
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


@dataclass(frozen=True, kw_only=True)
class Script:
    """What an answer says, and how it goes wrong.

    `fault` is one of status, reset, close, stall, garbage, bad_chunk, truncated_json, loris,
    long_line, long_head, error_event, wrong_type, redirect by status 302, and comes in place of
    event number `at` (0: before the head, for those that can). `tool_calls` are (id, name,
    arguments). `usage`: prompt, cached and reasoning tokens; None for a server that gives none.
    """

    pieces: tuple[str, ...] = ("Hello", ", ", "world", "!")
    reasoning: tuple[str, ...] = ()
    tool_calls: tuple[tuple[str, str, str], ...] = ()
    finish: str | None = "stop"
    done: bool = True
    usage: tuple[int, int, int] | None = (7, 2, 0)
    fault: str = ""
    at: int = 0
    status: int = 500
    message: str = "scripted"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0  # between events
    split: int = 0  # bytes of each write; 0: an event at a time
    line_end: bytes = b"\n"
    until_close: bool = False  # the end of the answer is the end of the connection
    size_mb: int = 16

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Script":
        return cls(**{name: _as_tuples(value) for name, value in given.items()})

    @property
    def completion_tokens(self) -> int:
        return len(self.pieces) + len(self.reasoning) + len(self.tool_calls)


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def error(message: str, code: str) -> dict[str, Any]:
    said = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return {"type": "error", "error": said}


def error_event(script: Script) -> bytes:
    said = {"type": "error", "error": {"type": "overloaded_error", "message": script.message}}
    return b"event: error\n" + _data(said)


def models(headers: Mapping[str, str]) -> dict[str, Any]:
    if "anthropic-version" in headers:
        one = {"type": "model", "id": MODEL, "display_name": "Their model"}
        one["created_at"] = "2026-01-01T00:00:00Z"
        return {"data": [one], "has_more": False, "first_id": MODEL, "last_id": MODEL}
    listed = {"id": MODEL, "object": "model", "created": CREATED, "owned_by": "them"}
    return {"object": "list", "data": [listed]}


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = []
    for index, text in enumerate(texts):
        vector = [byte / 255 for byte in sha256(str(text).encode()).digest()[:4]]
        value: Any = vector
        if body.get("encoding_format") == "base64":
            value = base64.b64encode(struct.pack("<4f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": value})
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"object": "list", "data": data, "model": MODEL, "usage": usage}


def whole(path: str, body: dict[str, Any], script: Script) -> dict[str, Any]:
    if path.endswith("/messages"):
        return _message(script, content=_blocks(script), stopped=True)
    text = "".join(script.pieces)
    head = {"id": "their-id", "created": CREATED, "model": body["model"]}
    if path.endswith("/chat/completions"):
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if script.tool_calls:
            message["tool_calls"] = [_call(*call) for call in script.tool_calls]
        said = {"index": 0, "message": message, "logprobs": None, "finish_reason": script.finish}
        return {**head, "object": "chat.completion", "choices": [said], "usage": _usage(script)}
    said = {"index": 0, "text": text, "logprobs": None, "finish_reason": script.finish}
    return {**head, "object": "text_completion", "choices": [said], "usage": _usage(script)}


def events(path: str, body: dict[str, Any], script: Script) -> list[bytes]:
    """The events of a stream, each as it is sent."""
    if path.endswith("/messages"):
        return [_named(said) for said in _message_events(script)]
    chat = path.endswith("/chat/completions")
    kind = "chat.completion.chunk" if chat else "text_completion"
    head = {"id": "their-id", "object": kind, "created": CREATED, "model": body["model"]}
    choices = _chat_choices(script, body) if chat else _text_choices(script, body)
    said = [{**head, "choices": [choice]} for choice in choices]
    if script.usage and (body.get("stream_options") or {}).get("include_usage"):
        said.append({**head, "choices": [], "usage": _usage(script, body.get("n", 1))})
    return [_data(one) for one in said] + ([b"data: [DONE]\n\n"] if script.done else [])


def _data(said: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(said, ensure_ascii=False).encode() + b"\n\n"


def _named(said: dict[str, Any]) -> bytes:
    return f"event: {said['type']}\n".encode() + _data(said)


def _chat_choices(script: Script, body: dict[str, Any]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": text} for text in script.reasoning]
    deltas += [{"content": text} for text in script.pieces]
    for index, (identity, name, arguments) in enumerate(script.tool_calls):
        half = len(arguments) // 2
        first = {**_call(identity, name, arguments[:half]), "index": index}
        deltas.append({"tool_calls": [first]})
        rest = {"index": index, "function": {"arguments": arguments[half:]}}
        deltas.append({"tool_calls": [rest]})
    numbers = range(body.get("n") or 1)
    said = [_choice(number, delta=delta) for delta in deltas for number in numbers]
    if body.get("logprobs"):
        for choice in said:
            if text := choice["delta"].get("content"):
                choice["logprobs"] = {"content": [_logprob(text)], "refusal": None}
    if script.finish:
        said += [_choice(number, script.finish, delta={}) for number in numbers]
    return said


def _text_choices(script: Script, body: dict[str, Any]) -> list[dict[str, Any]]:
    numbers = range(body.get("n") or 1)
    said = [_choice(number, text=text) for text in script.pieces for number in numbers]
    if script.finish:
        said += [_choice(number, script.finish, text="") for number in numbers]
    return said


def _choice(index: int, finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"index": index, **said, "logprobs": None, "finish_reason": finish}


def _logprob(text: str) -> dict[str, Any]:
    one = {"token": text, "logprob": -0.5, "bytes": list(text.encode())}
    return {**one, "top_logprobs": [one]}


def _call(identity: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def _usage(script: Script, n: int | None = 1) -> dict[str, Any] | None:
    if script.usage is None:
        return None
    prompt, cached, reasoning = script.usage
    made = script.completion_tokens * (n or 1)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _message(script: Script, *, content: list[dict[str, Any]], stopped: bool) -> dict[str, Any]:
    prompt, cached, _ = script.usage or (0, 0, 0)
    made = script.completion_tokens if stopped else 1
    return {
        "id": "msg_their_id",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": content,
        "stop_reason": _STOP_REASONS[script.finish or "stop"] if stopped else None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": prompt - cached,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": made,
        },
    }


def _blocks(script: Script) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if script.reasoning:
        thinking = "".join(script.reasoning)
        blocks.append({"type": "thinking", "thinking": thinking, "signature": "c2ln"})
    if script.pieces:
        blocks.append({"type": "text", "text": "".join(script.pieces)})
    for identity, name, arguments in script.tool_calls:
        said = {"type": "tool_use", "id": identity, "name": name}
        blocks.append({**said, "input": json.loads(arguments or "{}")})
    return blocks


def _message_events(script: Script) -> list[dict[str, Any]]:
    start = _message(script, content=[], stopped=False)
    said: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    parts: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if script.reasoning:
        deltas = [{"type": "thinking_delta", "thinking": text} for text in script.reasoning]
        deltas.append({"type": "signature_delta", "signature": "c2ln"})
        parts.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
    if script.pieces:
        texts = [{"type": "text_delta", "text": text} for text in script.pieces]
        parts.append(({"type": "text", "text": ""}, texts))
    for identity, name, arguments in script.tool_calls:
        half = len(arguments) // 2
        halves = [text for text in (arguments[:half], arguments[half:]) if text]
        inputs = [{"type": "input_json_delta", "partial_json": text} for text in halves]
        parts.append(({"type": "tool_use", "id": identity, "name": name, "input": {}}, inputs))
    for index, (block, deltas) in enumerate(parts):
        said.append({"type": "content_block_start", "index": index, "content_block": block})
        said += [{"type": "content_block_delta", "index": index, "delta": one} for one in deltas]
        said.append({"type": "content_block_stop", "index": index})
    if script.finish:
        reason = {"stop_reason": _STOP_REASONS[script.finish], "stop_sequence": None}
        usage = {"output_tokens": script.completion_tokens}
        if script.usage and script.usage[2]:
            usage |= {"output_tokens_details": {"thinking_tokens": script.usage[2]}}
        said.append({"type": "message_delta", "delta": reason, "usage": usage})
    return said + ([{"type": "message_stop"}] if script.done else [])

"""What a client has of an answer, in each of the four APIs, streamed or whole."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """`complete`: it said that it ended, and ended so. `error` is what it said instead."""

    status: int
    text: str = ""
    arguments: str = ""  # of the call of a tool, if it made one
    identity: str = ""  # of a response that is kept
    finish: str = ""
    error: str = ""
    restarts: int = 0
    closed: bool = False  # a stream's last event came
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.status == 200 and bool(self.finish) and not self.error and self.closed


def answer_of(status: int, stream: bool, data: bytes, *, keep: bool = False) -> Answer:
    """`keep`: the events of a stream are kept as they came."""
    found = Answer(status)
    if status != 200 or not stream:
        _whole(found, json.loads(data))
        return found
    for event in events_of(data):
        if event is None:
            found.closed = True
            continue
        if keep:
            found.events.append(event)
        _take(found, event)
    return found


def events_of(data: bytes) -> Iterator[dict[str, Any] | None]:
    """The events of a stream; None for the one that says that it is over."""
    for line in data.decode().split("\n"):
        if line.startswith("data: [DONE]"):
            yield None
        elif line.startswith("data: "):
            yield json.loads(line[6:])


def _whole(found: Answer, body: dict[str, Any]) -> None:
    found.closed = True
    if body.get("error"):
        found.error = str(body["error"].get("code") or body["error"].get("type"))
    elif "choices" in body:
        choice = body["choices"][0]
        found.text = choice.get("text") or (choice.get("message") or {}).get("content") or ""
        for call in (choice.get("message") or {}).get("tool_calls") or ():
            found.arguments += call["function"]["arguments"]
        found.finish = choice["finish_reason"]
    elif body.get("object") == "response":
        _response(found, body)
    else:
        for block in body["content"]:
            found.text += block.get("text", "")
            found.arguments += json.dumps(block["input"]) if "input" in block else ""
        found.finish = body["stop_reason"]


def _response(found: Answer, body: dict[str, Any]) -> None:
    found.identity = body["id"]
    for item in body["output"]:
        found.text += "".join(part["text"] for part in item.get("content") or () if "text" in part)
        found.arguments += item.get("arguments", "")
    found.finish = body["status"] if body["status"] in ("completed", "incomplete") else ""


def _take(found: Answer, event: dict[str, Any]) -> None:
    kind = event.get("type", "")
    if event.get("error") or kind in ("error", "response.failed"):
        said = event.get("error") or event
        found.error = str(said.get("code") or said.get("type") or "error")
    elif event.get("choices") is not None:
        _chunk(found, event)
    elif kind == "response.completed":
        found.text = found.arguments = ""
        _response(found, event["response"])
        found.closed = True
    elif kind == "content_block_delta":
        found.text += event["delta"].get("text", "")
        found.arguments += event["delta"].get("partial_json", "")
    elif kind == "message_delta":
        found.finish = event["delta"]["stop_reason"] or ""
    elif kind == "message_stop":
        found.closed = True


def _chunk(found: Answer, event: dict[str, Any]) -> None:
    if event.get("tokenworks", {}).get("restarted"):
        found.restarts += 1
        found.text = found.arguments = ""
    for choice in event["choices"]:
        delta = choice.get("delta") or {}
        found.text += delta.get("content") or choice.get("text") or ""
        for call in delta.get("tool_calls") or ():
            found.arguments += call["function"].get("arguments") or ""
        found.finish = choice.get("finish_reason") or found.finish

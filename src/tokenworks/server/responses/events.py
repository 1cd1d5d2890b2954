"""A response as its stream of typed, numbered events."""

from collections.abc import Callable
from typing import Any

from msgspec import json

from tokenworks.errors import BackendLost
from tokenworks.gateway.backend import Chunk, FinishReason, Usage
from tokenworks.server.answer import Answer
from tokenworks.server.replies import Failure
from tokenworks.server.responses.conversion import call_item, message_item, output_items
from tokenworks.server.responses.described import completed


class ResponseEvents:
    """One stream. `now` gives Unix seconds."""

    def __init__(self, response: dict[str, Any], now: Callable[[], int]) -> None:
        self._response = response
        self._key = str(response["id"]).removeprefix("resp_")
        self._now = now
        self._number = 0
        self._whole: dict[str, Any] | None = None
        self._answer = Answer()
        self._reason: FinishReason = "stop"
        self._usage = Usage(prompt_tokens=0, completion_tokens=0)
        self._open: list[
            tuple[str, int]
        ] = []  # items in order: their kind, and their call's number

    def opening(self) -> bytes:
        begun = {"response": self._response}
        return self._event("response.created", begun) + self._event("response.in_progress", begun)

    def piece(self, chunk: Chunk) -> bytes:
        data = b""
        if chunk.restarted:
            raise BackendLost("The answer broke off, and this API cannot say that it begins again")
        self._answer.add(chunk)
        if chunk.reasoning:
            data += self._within("reasoning", 0)
            data += self._delta("response.reasoning_text.delta", chunk.reasoning, content_index=0)
        if chunk.text:
            data += self._within("message", 0)
            extra = {"content_index": 0, "logprobs": []}
            data += self._delta("response.output_text.delta", chunk.text, **extra)
        for call in chunk.tool_calls:
            data += self._within("function_call", call.index)
            if call.arguments:
                data += self._delta("response.function_call_arguments.delta", call.arguments)
        self._reason = chunk.finish_reason or self._reason
        self._usage = chunk.usage or self._usage
        return data

    def closing(self) -> bytes:
        data = b"" if self._open else self._within("message", 0)
        data += self._closed()
        whole = self.whole()
        return data + self._event(f"response.{whole['status']}", {"response": whole})

    def whole(self) -> dict[str, Any]:
        """The response with all of its answer, once the last chunk has come."""
        if self._whole is None:
            output = output_items(self._key, self._answer)
            self._whole = completed(self._response, output, self._reason, self._usage, self._now())
        return self._whole

    def failure(self, failure: Failure) -> bytes:
        error = {"code": failure.code or "server_error", "message": failure.message}
        failed = {**self._response, "status": "failed", "error": error}
        return self._event("response.failed", {"response": failed})

    def _within(self, kind: str, number: int) -> bytes:
        """What begins this item, if another one or none is open."""
        if self._open and self._open[-1] == (kind, number):
            return b""
        data = self._closed()
        self._open.append((kind, number))
        data += self._event("response.output_item.added", {**self._where(), "item": self._begun()})
        if kind == "message":
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            data += self._part("added", part)
        elif kind == "reasoning":
            data += self._part("added", {"type": "reasoning_text", "text": ""})
        return data

    def _begun(self) -> dict[str, Any]:
        kind, number = self._open[-1]
        identity = self._identity()
        if kind == "message":
            return message_item(identity, "", "in_progress")
        if kind == "reasoning":
            return {"id": identity, "type": "reasoning", "summary": [], "content": []}
        call = self._answer.tool_calls[number]
        return call_item(identity, call.id, call.name, "", "in_progress")

    def _closed(self) -> bytes:
        """What ends the open item."""
        if not self._open:
            return b""
        kind, number = self._open[-1]
        if kind == "function_call":
            call = self._answer.tool_calls[number]
            arguments = "".join(call.arguments)
            item = call_item(self._identity(), call.id, call.name, arguments)
            done = {**self._where(), "item_id": self._identity(), "name": call.name}
            done["arguments"] = arguments
            data = self._event("response.function_call_arguments.done", done)
        elif kind == "message":
            text = self._answer.text
            item = message_item(self._identity(), text)
            data = self._done("response.output_text.done", text, logprobs=[])
            data += self._part("done", item["content"][0])
        else:
            text = "".join(self._answer.reasoning)
            part = {"type": "reasoning_text", "text": text}
            item = {**self._begun(), "content": [part]}
            data = self._done("response.reasoning_text.done", text)
            data += self._part("done", part)
        return data + self._event("response.output_item.done", {**self._where(), "item": item})

    def _identity(self) -> str:
        kind, number = self._open[-1]
        if kind == "function_call":
            return f"fc_{self._key}_{number}"
        return f"{'msg' if kind == 'message' else 'rs'}_{self._key}"

    def _where(self) -> dict[str, Any]:
        return {"output_index": len(self._open) - 1}

    def _part(self, what: str, part: dict[str, Any]) -> bytes:
        said = {**self._where(), "item_id": self._identity(), "content_index": 0, "part": part}
        return self._event(f"response.content_part.{what}", said)

    def _delta(self, kind: str, delta: str, **extra: object) -> bytes:
        said = {**self._where(), "item_id": self._identity(), "delta": delta, **extra}
        return self._event(kind, said)

    def _done(self, kind: str, text: str, **extra: object) -> bytes:
        said = {**self._where(), "item_id": self._identity(), "content_index": 0, "text": text}
        return self._event(kind, {**said, **extra})

    def _event(self, kind: str, said: dict[str, Any]) -> bytes:
        body = {"type": kind, "sequence_number": self._number, **said}
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.encode(body))

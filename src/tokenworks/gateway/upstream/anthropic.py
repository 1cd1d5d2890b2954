"""The dialect of Anthropic's messages."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tokenworks.errors import RequestError
from tokenworks.gateway.backend import Completion
from tokenworks.gateway.upstream.anthropic_events import AnthropicAnswers
from tokenworks.gateway.upstream.dialect import (
    Answers,
    Call,
    cannot_continue,
    check_abilities,
    encoded,
    refuse,
)
from tokenworks.gateway.upstream.settings import UpstreamSettings

VERSION: Final = "2023-06-01"
"""Of the API: the only one there is."""

_EFFORTS: Final = frozenset({"low", "medium", "high", "xhigh"})
_NEUTRAL: Final[Mapping[str, object]] = {
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "logit_bias": (),
    "min_tokens": 0,
    "n": 1,
    "logprobs": None,
    "echo": False,
}
"""What this API has no parameter for, with the values that ask for nothing. A seed is not among
them: every request has one, drawn if nobody gave it."""

Block = dict[str, Any]


class AnthropicDialect:
    def __init__(self, settings: UpstreamSettings) -> None:
        self._settings = settings

    @property
    def models_path(self) -> str:
        return "/v1/models"

    def key_fields(self, key: str) -> Mapping[str, str]:
        version = {"anthropic-version": VERSION}
        return {**version, "x-api-key": key} if key else version

    def answers(self, request: Completion) -> Answers:
        return AnthropicAnswers(self._settings.name, request)

    def call(self, request: Completion, model: str) -> Call:
        check_abilities(self._settings, request)
        self._check_sampling(request)
        if request.messages is None:
            raise refuse(self._settings, "prompt")
        system, messages = conversation_of(request.messages)
        if request.begun:
            if self._settings.continues != "prefill":
                raise cannot_continue(self._settings)
            _append(messages, "assistant", [_text(request.begun)])
        body: dict[str, Any] = {
            "model": model,
            "messages": messages,
            "max_tokens": request.max_tokens or self._settings.answer_tokens,
            "stream": True,
        }
        if system:
            body["system"] = system
        body |= _sampling(request)
        body |= self._further(request.further)
        return Call("/v1/messages", encoded(body))

    def _check_sampling(self, request: Completion) -> None:
        for name, neutral in _NEUTRAL.items():
            if getattr(request, name) != neutral:
                raise refuse(self._settings, name)
        if request.template_options:
            raise refuse(self._settings, "chat_template_kwargs")
        if request.temperature > 1:
            raise RequestError(
                f"The backend {self._settings.name!r} takes a temperature from 0 to 1, not "
                f"{request.temperature:g}",
                param="temperature",
            )

    def _further(self, further: Mapping[str, object]) -> dict[str, Any]:
        said: dict[str, Any] = {}
        output: dict[str, Any] = {}
        for name, value in further.items():
            if name == "tools":
                said["tools"] = [_tool(tool) for tool in _list(value)]
            elif name == "response_format":
                output["format"] = self._format(value)
            elif name == "reasoning_effort":
                if value not in _EFFORTS:
                    raise refuse(self._settings, f"reasoning_effort: {value}")
                output["effort"] = value
            elif name not in ("tool_choice", "parallel_tool_calls"):
                raise refuse(self._settings, name)
        if "tools" in said and (choice := _tool_choice(further)):
            said["tool_choice"] = choice
        return {**said, "output_config": output} if output else said

    def _format(self, value: object) -> dict[str, Any]:
        schema = value.get("json_schema") if isinstance(value, dict) else None
        if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
            raise refuse(self._settings, "response_format of any type but json_schema")
        return {"type": "json_schema", "schema": schema["schema"]}


def conversation_of(messages: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """The system's text and the turns, of which no two that follow one another have one role.

    Raises RequestError for what this dialect cannot say: a system message in mid-conversation.
    """
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        role, content = message["role"], message.get("content")
        if role == "system":
            if turns:
                raise RequestError(
                    "This model's backend takes system messages at the beginning only",
                    param="messages",
                )
            system.append(content or "")
        elif role == "tool":
            result = {"type": "tool_result", "tool_use_id": message["tool_call_id"]}
            _append(turns, "user", [{**result, "content": content or ""}])
        else:
            calls = [_call(call) for call in message.get("tool_calls") or ()]
            _append(turns, role, [*_blocks(content), *calls])
    return "\n\n".join(filter(None, system)), turns


def _append(turns: list[dict[str, Any]], role: str, blocks: list[Block]) -> None:
    if not blocks:
        return  # this dialect knows no empty message
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _blocks(content: str | list[Any] | None) -> list[Block]:
    if not isinstance(content, list):
        return [_text(content)] if content else []
    return [_part(part) for part in content if part.get("text") != ""]


def _part(part: dict[str, Any]) -> Block:
    if part["type"] == "text":
        return _text(part["text"])
    if part["type"] != "image_url":
        raise RequestError(f"This model's backend takes no {part['type']!r}", param="messages")
    url: str = part["image_url"]["url"]
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    head, comma, data = url.removeprefix("data:").partition(",")
    kind, *options = head.split(";")
    if not comma or "base64" not in options:
        raise RequestError("An image's data: url must be in base64", param="messages")
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _call(call: dict[str, Any]) -> Block:
    function = call["function"]
    try:
        arguments = msgspec.json.decode(function["arguments"] or "{}")
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise RequestError(
            f"The arguments of the tool call {str(call['id'])[:80]!r} are no JSON object",
            param="messages",
        )
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments}


def _tool(tool: Any) -> Block:
    function = tool["function"]
    said = {"name": function["name"], "input_schema": function.get("parameters")}
    said["input_schema"] = said["input_schema"] or {"type": "object", "properties": {}}
    if function.get("description"):
        said["description"] = function["description"]
    if function.get("strict"):
        said["strict"] = True
    return said


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _tool_choice(further: Mapping[str, object]) -> dict[str, Any]:
    """Empty if nothing is asked for."""
    choice: Any = further.get("tool_choice", "auto")
    if isinstance(choice, dict):
        said: dict[str, Any] = {"type": "tool", "name": choice["function"]["name"]}
    else:
        said = {"type": {"required": "any"}.get(choice, choice)}
    if further.get("parallel_tool_calls") is False and said["type"] != "none":
        said["disable_parallel_tool_use"] = True
    return {} if said == {"type": "auto"} else said


def _sampling(request: Completion) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if request.temperature != 1.0:
        said["temperature"] = request.temperature
    if request.top_p != 1.0:
        said["top_p"] = request.top_p
    if request.top_k:
        said["top_k"] = request.top_k
    if request.stop:
        said["stop_sequences"] = list(request.stop)
    return said

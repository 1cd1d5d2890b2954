"""Items of the responses API as messages of chats, which the gateway takes, and back. Pure."""

from collections.abc import Sequence
from typing import Any

from tokenworks.server.answer import Answer
from tokenworks.server.responses.parameters import (
    CallItem,
    Item,
    MessageItem,
    Part,
    ReasoningItem,
    ResponsesParameters,
    ResultItem,
    TextPart,
)


def messages_of(items: Sequence[Item], instructions: str | None) -> list[dict[str, Any]]:
    """The conversation. Calls of one answer become one message, as they were one."""
    messages: list[dict[str, Any]] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    for item in items:
        if isinstance(item, MessageItem):
            messages.append(_message(item))
        elif isinstance(item, CallItem):
            _add_call(messages, item)
        elif isinstance(item, ResultItem):
            output = item.output
            if isinstance(output, list):
                output = "\n".join(part.text for part in output)
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": output})
        else:
            assert isinstance(item, ReasoningItem)
    return messages


def input_items(parameters: ResponsesParameters) -> list[Item]:
    if isinstance(parameters.input, str):
        return [MessageItem(role="user", content=parameters.input)]
    return list(parameters.input)


def further_of(parameters: ResponsesParameters) -> dict[str, object]:
    """Tools, format and effort as the chat API says them."""
    further: dict[str, object] = {}
    if parameters.tools:
        further["tools"] = [
            {
                "type": "function",
                "function": tool.model_dump(exclude={"type"}, exclude_none=True),
            }
            for tool in parameters.tools
        ]
        choice = parameters.tool_choice
        if isinstance(choice, dict):
            further["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
        elif choice not in (None, "auto"):
            further["tool_choice"] = choice
        if parameters.parallel_tool_calls is not None:
            further["parallel_tool_calls"] = parameters.parallel_tool_calls
    wanted = parameters.text.format if parameters.text else None
    if wanted is not None and wanted.type == "json_schema":
        schema: dict[str, object] = {
            "name": wanted.name or "answer",
            "schema": wanted.schema_ or {},
        }
        if wanted.strict is not None:
            schema["strict"] = wanted.strict
        further["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif wanted is not None and wanted.type == "json_object":
        further["response_format"] = {"type": "json_object"}
    effort = parameters.reasoning.effort if parameters.reasoning else None
    if effort not in (None, "none"):
        further["reasoning_effort"] = effort
    return further


def output_items(identity: str, answer: Answer) -> list[dict[str, Any]]:
    """What was answered, as items: its reasoning, its text, its calls."""
    items: list[dict[str, Any]] = []
    if answer.reasoning:
        thought = {"type": "reasoning_text", "text": "".join(answer.reasoning)}
        items.append(
            {"id": f"rs_{identity}", "type": "reasoning", "summary": [], "content": [thought]}
        )
    if answer.text or not answer.tool_calls:
        items.append(message_item(f"msg_{identity}", answer.text))
    for index, call in sorted(answer.tool_calls.items()):
        arguments = "".join(call.arguments)
        items.append(call_item(f"fc_{identity}_{index}", call.id, call.name, arguments))
    return items


def message_item(identity: str, text: str, status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": identity,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [part] if status == "completed" else [],
    }


def call_item(
    identity: str, call_id: str, name: str, arguments: str, status: str = "completed"
) -> dict[str, Any]:
    return {
        "id": identity,
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def _message(item: MessageItem) -> dict[str, Any]:
    role = "system" if item.role == "developer" else item.role
    content = item.content
    if isinstance(content, str):
        return {"role": role, "content": content}
    if all(isinstance(part, TextPart) for part in content) or role != "user":
        return {"role": role, "content": "\n".join(_text(part) for part in content)}
    return {"role": role, "content": [_part(part) for part in content]}


def _text(part: Part) -> str:
    return str(getattr(part, "text", getattr(part, "refusal", "")))


def _part(part: Part) -> dict[str, Any]:
    url = getattr(part, "image_url", None)
    if url is None:
        return {"type": "text", "text": _text(part)}
    return {"type": "image_url", "image_url": {"url": url}}


def _add_call(messages: list[dict[str, Any]], item: CallItem) -> None:
    call = {
        "id": item.call_id,
        "type": "function",
        "function": {"name": item.name, "arguments": item.arguments},
    }
    last = messages[-1] if messages else {}
    if last.get("role") == "assistant":
        last.setdefault("tool_calls", []).append(call)
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})

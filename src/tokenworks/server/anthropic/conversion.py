"""Anthropic's messages as OpenAI's, which the gateway takes. Pure."""

from collections.abc import Iterator
from typing import Any

from msgspec import json

from tokenworks.server.anthropic.parameters import (
    Block,
    ImageBlock,
    Message,
    MessagesParameters,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)


def messages_of(parameters: MessagesParameters) -> list[dict[str, Any]]:
    """The whole conversation, its system text first."""
    system = parameters.system
    if isinstance(system, list):
        system = "\n".join(block.text for block in system)
    begin = [{"role": "system", "content": system}] if system else []
    return [*begin, *(one for message in parameters.messages for one in _plain(message))]


def further_of(parameters: MessagesParameters) -> dict[str, object]:
    """Tools and their choice, as OpenAI's API says them."""
    if not parameters.tools:
        return {}
    further: dict[str, object] = {
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    **({"description": tool.description} if tool.description else {}),
                    "parameters": tool.input_schema,
                },
            }
            for tool in parameters.tools
        ]
    }
    choice = parameters.tool_choice
    if choice is not None:
        if choice.type == "tool":
            further["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
        elif choice.type != "auto":
            further["tool_choice"] = {"any": "required", "none": "none"}[choice.type]
        if choice.disable_parallel_tool_use is not None:
            further["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    return further


def _plain(message: Message) -> Iterator[dict[str, Any]]:
    if isinstance(message.content, str):
        yield {"role": message.role, "content": message.content}
        return
    if message.role == "assistant":
        yield _assistant(message.content)
        return
    # Results go before what the user adds: they answer the calls of the message before.
    for block in message.content:
        if isinstance(block, ToolResultBlock):
            yield _result(block)
    if content := _user_content(message.content):
        yield {"role": "user", "content": content}


def _assistant(blocks: list[Block]) -> dict[str, Any]:
    text = "\n".join(block.text for block in blocks if isinstance(block, TextBlock))
    calls = [
        {
            "id": block.id,
            "type": "function",
            "function": {"name": block.name, "arguments": json.encode(block.input).decode()},
        }
        for block in blocks
        if isinstance(block, ToolUseBlock)
    ]
    if not calls:
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": text or None, "tool_calls": calls}


def _result(block: ToolResultBlock) -> dict[str, Any]:
    content = block.content or ""
    if isinstance(content, list):
        content = "\n".join(part.text for part in content)
    if block.is_error:
        content = f"Error: {content}"
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _user_content(blocks: list[Block]) -> str | list[dict[str, Any]]:
    if not any(isinstance(block, ImageBlock) for block in blocks):
        return "\n".join(block.text for block in blocks if isinstance(block, TextBlock))
    parts: list[dict[str, Any]] = []
    for block in blocks:
        if isinstance(block, TextBlock):
            parts.append({"type": "text", "text": block.text})
        elif isinstance(block, ImageBlock):
            source = block.source
            url = source.url or f"data:{source.media_type};base64,{source.data}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts

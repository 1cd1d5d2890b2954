"""All the text of a request that a backend would see: to be looked through, or to be changed."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from msgspec import json

from tokenworks.gateway.backend import Completion

Change = Callable[[str], str]


_OURS = re.compile(r"[0-9a-f]{16}")
"""An id that nobody gave, and that is random: one in many is digits that pass for a card's."""


def texts_of(request: Completion) -> Iterator[str]:
    """Every text: of messages and their parts, calls and results of tools, tools' own, schemas, and
    the id that a client gave its request: backends are told that too."""
    if request.request_id and not _OURS.fullmatch(request.request_id):
        yield request.request_id
    for message in request.messages or ():
        yield from _content_texts(message.get("content"))
        for call in message.get("tool_calls") or ():
            yield from _argument_texts(str(call["function"]["arguments"]))
            yield from (str(call["id"]), str(call["function"]["name"]))
        if "tool_call_id" in message:
            yield str(message["tool_call_id"])
    if isinstance(request.prompt, str):
        yield request.prompt
    if request.begun:
        yield request.begun
    for value in (*request.further.values(), *request.template_options.values()):
        yield from strings_of(value)
    yield from request.stop


def is_readable(request: Completion) -> bool:
    """Whether all of it is text: what an image or bare token ids say, nobody here can tell."""
    return not isinstance(request.prompt, list) and not any(
        isinstance(message.get("content"), list)
        and any(part.get("type") != "text" for part in message["content"])
        for message in request.messages or ()
    )


def changed(request: Completion, change: Change) -> Completion:
    """The request with every text changed; arguments of calls stay JSON, ids and numbers as they
    are.

    `change` hears the texts in the order in which backends render them: tools, then the messages.
    What a conversation goes on with comes after all that was there before.
    """
    further = {name: _changed(value, change) for name, value in request.further.items()}
    options = {name: _changed(value, change) for name, value in request.template_options.items()}
    stop = tuple(change(stop) for stop in request.stop)
    messages = request.messages
    return replace(
        request,
        further=further,
        template_options=options,
        stop=stop,
        messages=None if messages is None else [_message(one, change) for one in messages],
        prompt=change(request.prompt) if isinstance(request.prompt, str) else request.prompt,
        begun=change(request.begun) if request.begun else "",
    )


def _message(message: dict[str, Any], change: Change) -> dict[str, Any]:
    new = {**message, "content": _content(message.get("content"), change)}
    if message.get("tool_calls"):
        new["tool_calls"] = [
            {**call, "function": _function(call["function"], change)}
            for call in message["tool_calls"]
        ]
    return new


def _function(function: dict[str, Any], change: Change) -> dict[str, Any]:
    arguments = str(function["arguments"])
    try:
        value = json.decode(arguments)
    except ValueError:
        return {**function, "arguments": change(arguments)}
    return {**function, "arguments": json.encode(_changed(value, change)).decode()}


def _content(content: Any, change: Change) -> Any:
    if isinstance(content, str):
        return change(content)
    if isinstance(content, list):
        return [
            {**part, "text": change(part["text"])} if part.get("type") == "text" else part
            for part in content
        ]
    return content


def _content_texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if part.get("type") == "text":
                yield part["text"]
            elif not (url := _address(part)).startswith("data:"):
                yield url


def _address(part: dict[str, Any]) -> str:
    """Where an image is found."""
    return str((part.get("image_url") or {}).get("url", "data:"))


def _argument_texts(arguments: str) -> Iterator[str]:
    """The arguments as they stand, and what JSON's escapes in them stand for."""
    yield arguments
    if "\\" in arguments:
        with suppress(ValueError):
            yield from strings_of(json.decode(arguments))


def strings_of(value: object) -> Iterator[str]:
    """All strings and numbers within, names of fields too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from strings_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_of(inner)


def _changed(value: Any, change: Change) -> Any:
    """The same with all strings changed but for the names of fields: those are looked up."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: _changed(inner, change) for name, inner in value.items()}
    if isinstance(value, list):
        return [_changed(inner, change) for inner in value]
    return value

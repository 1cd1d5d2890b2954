"""What clients send for a conversation, in each of the four APIs."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from gateway_conversations import Api, Conversation

Body = dict[str, Any]


def body_of(of: Conversation, turn: int) -> Body:
    """The request of one turn, as JSON."""
    return BODIES[of.api](of, turn)


def _chat(of: Conversation, turn: int) -> Body:
    messages: list[Body] = [
        {"role": "system", "content": f"Be brief. {one}"} for one in of.at("system")
    ]
    messages += [{"role": "user", "content": f"Before: {one}"} for one in of.at("history")]
    messages += [{"role": "assistant", "content": f"I noted {one}."} for one in of.at("assistant")]
    messages += _calls(of)
    for index in range(turn):
        messages.append({"role": "user", "content": of.turns[index]})
        messages.append({"role": "assistant", "content": of.answers[index] or "Well."})
    messages.append({"role": "user", "content": _content(of, turn)})
    body: Body = {"model": "helper", "messages": messages, "stream": of.stream}
    if tools := _tools(of):
        body["tools"] = [{"type": "function", "function": tool} for tool in tools]
    for text in of.at("format"):
        schema = {"name": "answer", "schema": {"type": "object", "description": text}}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if stops := of.at("stop"):
        body["stop"] = stops
    if options := of.at("template"):
        body["chat_template_kwargs"] = {"tone": options[0]}
    return body | _fields(of, ("user", "safety_identifier", "prompt_cache_key"))


def _content(of: Conversation, turn: int) -> Any:
    """Text, or parts of it where an item stands in a part or in an image's address."""
    text = of.turns[turn]
    parts: list[Body] = [{"type": "text", "text": text}]
    parts += [{"type": "text", "text": f"And {one}"} for one in of.at("parts")]
    for one in of.at("image"):
        address = f"https://pictures.example.org/p?of={''.join(one.split())}"
        parts.append({"type": "image_url", "image_url": {"url": address}})
    return parts if len(parts) > 1 and not turn else text


def _calls(of: Conversation) -> list[Body]:
    """Calls of tools and their results, as a client sends them back."""
    found: list[Body] = []
    for index, (identity, name, arguments, result) in enumerate(_called(of)):
        function = {"name": name, "arguments": arguments}
        call = {"id": identity, "type": "function", "function": function}
        if not index:
            found.append({"role": "user", "content": "Look it up."})
        found.append({"role": "assistant", "content": None, "tool_calls": [call]})
        found.append({"role": "tool", "tool_call_id": identity, "content": result})
    return found


def _called(of: Conversation) -> list[tuple[str, str, str, str]]:
    calls = [
        ("c1", "look", json.dumps({"to": x}, ensure_ascii=False), "ok") for x in of.at("arguments")
    ]
    calls += [
        ("c2", "look", json.dumps({"to": _escaped(x)}).replace("\\\\u", "\\u"), "ok")
        for x in of.at("escaped")
    ]
    calls += [("c3", "look", f'{{"number": {x}}}', "ok") for x in of.at("number")]
    calls += [("c4", "look", "{}", f"Found: {x}") for x in of.at("result")]
    calls += [(f"id-{x}", "look", "{}", "ok") for x in of.at("call_id")]
    calls += [("c6", f"look_{x}", "{}", "ok") for x in of.at("call_name")]
    return calls


def _escaped(text: str) -> str:
    """Every letter as JSON's escape for it."""
    units = text.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _tools(of: Conversation) -> list[Body]:
    names = [f"look_{x}" for x in of.at("tool_name")]
    texts, enums = of.at("tool_text"), of.at("schema")
    if not (names or texts or enums or of.tool_wanted or _called(of)):
        return []
    properties = {"to": {"type": "string", **({"enum": enums} if enums else {})}}
    schema = {"type": "object", "properties": properties}
    return [
        {
            "name": (names or ["look"])[0],
            "description": " ".join(["Looks.", *texts]),
            "parameters": schema,
        }
    ]


def _fields(of: Conversation, names: Sequence[str]) -> Body:
    """Parameters that say who asks, which no backend is told."""
    found: Body = {}
    for text in of.at("user_field"):
        found |= {name: text for name in names}
        found["metadata"] = {"user": text}
    return found


def _completions(of: Conversation, turn: int) -> Body:
    body: Body = {
        "model": "helper",
        "prompt": of.turns[turn],
        "stream": of.stream,
        "max_tokens": 400,
    }
    if stops := of.at("stop"):
        body["stop"] = stops
    return body | _fields(of, ("user",))


def _responses(of: Conversation, turn: int) -> Body:
    given: list[Body] = []
    if not turn:
        given += [{"role": "user", "content": f"Before: {one}"} for one in of.at("history")]
        given += [{"role": "assistant", "content": f"I noted {x}."} for x in of.at("assistant")]
        for identity, name, arguments, result in _called(of):
            call = {"type": "function_call", "call_id": identity, "name": name}
            given.append({**call, "arguments": arguments})
            given.append({"type": "function_call_output", "call_id": identity, "output": result})
        given += [
            {"role": "user", "content": [{"type": "input_text", "text": x}]} for x in of.at("parts")
        ]
    given.append({"role": "user", "content": of.turns[turn]})
    body: Body = {"model": "helper", "input": given, "stream": of.stream}
    for text in of.at("system"):
        body["instructions"] = f"Be brief. {text}"
    if tools := _tools(of):
        body["tools"] = [{"type": "function", **tool} for tool in tools]
    for text in of.at("format"):
        schema = {"type": "object", "description": text}
        body["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": schema}}
    if turn and of.previous:
        body["previous_response_id"] = of.previous
    return body | _fields(of, ("user", "safety_identifier"))


def _messages(of: Conversation, turn: int) -> Body:
    messages: list[Body] = [{"role": "user", "content": f"Before: {x}"} for x in of.at("history")]
    messages += [{"role": "assistant", "content": f"I noted {x}."} for x in of.at("assistant")]
    for identity, name, arguments, result in _called(of):
        use = {"type": "tool_use", "id": identity, "name": name, "input": json.loads(arguments)}
        messages.append({"role": "assistant", "content": [use]})
        done = {"type": "tool_result", "tool_use_id": identity, "content": result}
        messages.append({"role": "user", "content": [done]})
    for index in range(turn):
        messages.append({"role": "user", "content": of.turns[index]})
        messages.append({"role": "assistant", "content": of.answers[index] or "Well."})
    blocks = [{"type": "text", "text": text} for text in (of.turns[turn], *of.at("parts"))]
    messages.append({"role": "user", "content": blocks if of.at("parts") else of.turns[turn]})
    body: Body = {"model": "helper", "max_tokens": 400, "messages": messages, "stream": of.stream}
    for text in of.at("system"):
        body["system"] = [{"type": "text", "text": f"Be brief. {text}"}]
    if tools := _tools(of):
        body["tools"] = [{**_without(tool), "input_schema": tool["parameters"]} for tool in tools]
    if stops := of.at("stop"):
        body["stop_sequences"] = stops
    for text in of.at("user_field"):
        body["metadata"] = {"user_id": text}
    return body


def _without(tool: Body) -> Body:
    return {name: value for name, value in tool.items() if name != "parameters"}


BODIES: Final[dict[Api, Callable[[Conversation, int], Body]]] = {
    "chat": _chat,
    "completions": _completions,
    "responses": _responses,
    "messages": _messages,
}

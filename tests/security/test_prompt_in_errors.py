"""What a request says is in no error about it: errors are logged, shown and sent on by clients."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hostile import EVERY_ROUTE, Attacked, asking, attacked, placed
from upstream_server import upstream_server

SAID = "the merger closes on friday"
"""What must not come back."""

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"text": SAID}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SAID}}
CHAT: list[dict[str, Any]] = [
    {"messages": SAID},
    {"messages": [SAID]},
    {"messages": {"role": "user", "content": SAID}},
    {"messages": [{"role": SAID, "content": "x"}]},
    {"messages": [{"role": "user", "content": {"text": SAID}}]},
    {"messages": [{"role": "user", "content": [SAID]}]},
    {"messages": [{"role": "user", "content": [{"type": SAID}]}]},
    {"messages": [{"role": "user", "content": [{"type": SAID * 1000}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": [SAID]}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": SAID, SAID: 1}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": SAID}]}]},
    {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": SAID}}]}
        ]
    },
    {"messages": [{"role": "user", "content": "x", SAID: SAID}]},
    {"messages": [{"role": "user", "content": "x", "name": [SAID]}]},
    {"messages": [{"role": "user", "content": "x", "tool_calls": SAID}]},
    {"messages": [{"role": "assistant", "content": "x", "tool_calls": [CALL]}]},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": 1}]}]},
    {"messages": [{"role": "tool", "content": "x", "tool_call_id": [SAID]}]},
    {"messages": [{"role": "tool", "content": "x", "tool_call_id": SAID * 20}]},
    {"messages": [{"role": "assistant", "content": "x", "reasoning_content": SAID}]},
    {"messages": [{"role": "assistant", "content": "x", "audio": {"id": SAID}}]},
    {"stop": {"x": SAID}},
    {"stop": [SAID, 1]},
    {"stop": SAID * 20},
    {"tools": SAID},
    {"tools": [TOOL]},
    {"tools": [{"type": SAID}]},
    {"tools": [TOOL | {"function": {"name": ""}}], "tool_choice": SAID},
    {"functions": [{"name": SAID}]},
    {"response_format": {"type": SAID}},
    {"response_format": {"type": "json_schema", "json_schema": SAID}},
    {"chat_template_kwargs": {SAID: [SAID]}},
    {"chat_template_kwargs": {"x": [SAID]}},
    {"chat_template_kwargs": SAID},
    {"logit_bias": {SAID: 1}},
    {"audio": {"voice": SAID}},
    {"web_search_options": {"q": SAID}},
    {"stream_options": {"include_usage": SAID}},
    {"temperature": SAID},
    {"max_tokens": SAID},
    {"user": SAID, "n": SAID},
    {"modalities": [SAID]},
    {SAID: 1},
]
COMPLETIONS: list[dict[str, Any]] = [
    {"prompt": {"text": SAID}},
    {"prompt": [SAID, SAID]},
    {"prompt": [1, SAID]},
    {"prompt": None, "suffix": SAID},
    {"suffix": SAID},
    {"tools": [{"type": SAID}]},
    {"best_of": SAID},
    {"prompt": SAID, "max_tokens": 0},
]
RESPONSES: list[dict[str, Any]] = [
    {"input": {"text": SAID}},
    {"input": [SAID]},
    {"input": [{"role": "user", "content": {"text": SAID}}]},
    {"input": [{"role": SAID, "content": "x"}]},
    {"input": [{"type": SAID, "content": SAID}]},
    {"input": [{"type": SAID * 1000}]},
    {"input": [{"role": "user", "content": [{"type": SAID, "text": SAID}]}]},
    {"input": [{"role": "user", "content": [{"type": "input_text", "text": [SAID]}]}]},
    {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": SAID}]}]},
    {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": SAID}}]},
    {"input": [{"type": "function_call_output", "call_id": "c", "output": {"a": SAID}}]},
    {"instructions": [SAID]},
    {"previous_response_id": SAID},
    {"previous_response_id": [SAID]},
    {"tools": [{"type": SAID}]},
    {"tools": [{"type": "function", "name": "f", "parameters": SAID}]},
    {"text": {"format": {"type": SAID}}},
    {"reasoning": {"effort": SAID}},
    {"metadata": {"x": [SAID]}},
    {"metadata": SAID},
    {"prompt": {"id": SAID}},
    {"conversation": SAID},
    {"tool_choice": SAID},
    {SAID: 1},
]
MESSAGES: list[dict[str, Any]] = [
    {"messages": SAID},
    {"messages": [SAID]},
    {"messages": [{"role": SAID, "content": "x"}]},
    {"messages": [{"role": "system", "content": SAID}]},
    {"messages": [{"role": "user", "content": {"text": SAID}}]},
    {"messages": [{"role": "user", "content": [SAID]}]},
    {"messages": [{"role": "user", "content": [{"type": SAID, "text": SAID}]}]},
    {"messages": [{"role": "user", "content": [{"type": SAID * 1000}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": {"a": SAID}}]}]},
    {"messages": [{"role": "user", "content": "x", SAID: SAID}]},
    {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": SAID}]}]},
    {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": {"a": SAID}}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": SAID}}]}]},
    {"messages": [{"role": "user", "content": [{"type": "document", "source": SAID}]}]},
    {"system": {"text": SAID}},
    {"system": [SAID]},
    {"system": [{"type": "text", "text": [SAID]}]},
    {"stop_sequences": [SAID * 20]},
    {"stop_sequences": SAID},
    {"tools": [{"name": "f", "input_schema": SAID}]},
    {"tools": SAID},
    {"tool_choice": SAID},
    {"tool_choice": {"type": SAID}},
    {"thinking": {"type": SAID}},
    {"max_tokens": SAID},
    {SAID: 1},
]
EMBEDDINGS: list[dict[str, Any]] = [
    {"input": {"text": SAID}},
    {"input": [SAID, 1]},
    {"input": [[SAID]]},
    {"input": [SAID, ""]},
    {"input": [1, SAID]},
    {"encoding_format": SAID},
    {"dimensions": SAID},
    {SAID: 1},
]
EVERY = (CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS)
WRONG = [(route, body) for route, bodies in zip(EVERY_ROUTE, EVERY, strict=True) for body in bodies]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with (
        upstream_server() as upstream,
        attacked(tmp_path_factory.mktemp("errors"), placed(upstream)) as gateway,
    ):
        yield gateway


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_no_validation_error_shows_what_the_request_says(gateway: Attacked, route: str) -> None:
    shown = []
    for body in (body for where, body in WRONG if where == route):
        reply = gateway.post(route, asking(route) | body)
        if reply.status >= 400:
            assert len(reply.text) < 2000, body
        if reply.status >= 500:
            shown.append((500, body))
        elif reply.status >= 400 and (SAID[:12] in reply.text or SAID[-12:] in reply.text):
            shown.append((reply.json()["error"]["message"][:160], body))

    assert shown == []


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_no_error_about_json_shows_what_the_request_says(gateway: Attacked, route: str) -> None:
    good = json.dumps(asking(route, SAID)).encode()
    for bad in (
        good[:-1],
        good + b"x",
        good.replace(b"merger", b"mer\xffger"),
        good.replace(b"merger", b"mer\nger"),
        good.replace(b"merger", b"mer\\ud800ger"),
        good.replace(b"{", b'{"%b": 1, "%b": 2, ' % ((SAID.encode(),) * 2), 1),
        b'"' + SAID.encode() + b'"',
        b"[" * 100 + good,
    ):
        reply = gateway.post(route, bad)
        assert reply.status == 400
        assert SAID[:12] not in reply.text
        assert SAID[-12:] not in reply.text


@pytest.mark.parametrize("path", ["/admin/keys", "/admin/budgets", "/admin/backends/rack"])
def test_no_error_of_the_administration_shows_a_value(gateway: Attacked, path: str) -> None:
    key = gateway.key(role="admin")
    method = "PUT" if "budgets" in path else "POST"
    kind = ("content-type", "application/json")
    for body in ({}, {"tenant": [SAID]}, {"state": SAID}, {"holder": {"x": SAID}}, SAID, [SAID]):
        reply = gateway.ask(method, path, json.dumps(body).encode(), kind, key=key)
        assert reply.status == 400
        assert SAID not in reply.text

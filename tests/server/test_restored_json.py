"""What was masked comes back into JSON so that it stays JSON, on each way that an answer goes."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from hybrid_servers import described, hybrid
from serving import Serving
from upstream_replies import Script
from upstream_server import UpstreamServer, upstream_server

SECRET = 'he said "no\\n1"'
ASK = f"The password: '{SECRET}'. Give it back."
MASKED = "<PASSWORD_1>"
SCHEMA = {"type": "object", "properties": {"password": {"type": "string"}}}
ANSWER = {"password": MASKED, "said": f"it is {MASKED}."}
WHOLE = {"password": SECRET, "said": f"it is {SECRET}."}
FORMAT = {"type": "json_schema", "json_schema": {"name": "f", "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
POLICIES = '[labels]\ndefault = "public"\nmask = ["password"]\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, UpstreamServer]]:
    with upstream_server() as cloud:
        far = described(cloud, "far", "cloud", "internal", 'abilities = ["tools", "schema"]')
        with hybrid(tmp_path_factory.mktemp("policies"), far, policies=POLICIES) as running:
            yield running, cloud


def answers(cloud: UpstreamServer, said: str = "", arguments: str = "") -> None:
    """The cloud's next answer, in pieces that cut placeholders."""
    pieces = tuple(said[at : at + 7] for at in range(0, len(said), 7))
    calls = (("call_1", "f", arguments),) if arguments else ()
    cloud.script = Script(pieces=pieces, tool_calls=calls, finish="tool_calls" if calls else "stop")


def events(server: Serving, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    told = httpx2.post(f"{server.url}{path}", json={**body, "stream": True}, timeout=30).text
    lines = [line[6:] for line in told.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def whole(server: Serving, path: str, body: dict[str, Any]) -> Any:
    return httpx2.post(f"{server.url}{path}", json=body, timeout=30).json()


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "helper", "messages": [{"role": "user", "content": ASK}], **more}


@pytest.mark.parametrize("form", [FORMAT, {"type": "json_object"}])
def test_the_structured_answer_of_a_chat_stays_json(
    server: tuple[Serving, UpstreamServer], form: dict[str, Any]
) -> None:
    running, cloud = server
    answers(cloud, json.dumps(ANSWER))
    body = chat(response_format=form)

    streamed = events(running, "/v1/chat/completions", body)
    text = "".join(one["choices"][0]["delta"].get("content") or "" for one in streamed)
    assert json.loads(text) == WHOLE
    said = whole(running, "/v1/chat/completions", body)["choices"][0]["message"]["content"]
    assert json.loads(said) == WHOLE
    assert SECRET not in json.dumps([one.body for one in cloud.asked])


def test_the_structured_answer_of_a_response_stays_json(
    server: tuple[Serving, UpstreamServer],
) -> None:
    running, cloud = server
    answers(cloud, json.dumps(ANSWER))
    form = {"type": "json_schema", "name": "f", "schema": SCHEMA}
    body = {"model": "helper", "input": ASK, "text": {"format": form}}

    streamed = events(running, "/v1/responses", body)
    deltas = [one["delta"] for one in streamed if one["type"] == "response.output_text.delta"]
    assert json.loads("".join(deltas)) == WHOLE
    (message,) = whole(running, "/v1/responses", body)["output"]
    assert json.loads(message["content"][0]["text"]) == WHOLE


def test_plain_text_gets_its_originals_as_they_are(server: tuple[Serving, UpstreamServer]) -> None:
    running, cloud = server
    answers(cloud, f"It is {MASKED}.")

    said = whole(running, "/v1/chat/completions", chat())["choices"][0]["message"]["content"]
    assert said == f"It is {SECRET}."


def test_the_arguments_of_a_chat_s_tool_call_stay_json(
    server: tuple[Serving, UpstreamServer],
) -> None:
    running, cloud = server
    answers(cloud, arguments=json.dumps(ANSWER))
    body = chat(tools=[TOOL])

    deltas = [one["choices"][0]["delta"] for one in events(running, "/v1/chat/completions", body)]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == WHOLE
    message = whole(running, "/v1/chat/completions", body)["choices"][0]["message"]
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == WHOLE


def test_the_arguments_of_a_response_s_tool_call_stay_json(
    server: tuple[Serving, UpstreamServer],
) -> None:
    running, cloud = server
    answers(cloud, arguments=json.dumps(ANSWER))
    tool = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}
    body = {"model": "helper", "input": ASK, "tools": [tool]}

    streamed = events(running, "/v1/responses", body)
    kind = "response.function_call_arguments.delta"
    assert json.loads("".join(one["delta"] for one in streamed if one["type"] == kind)) == WHOLE
    (call,) = whole(running, "/v1/responses", body)["output"]
    assert json.loads(call["arguments"]) == WHOLE


def test_the_input_of_a_message_s_tool_use_stays_json(
    server: tuple[Serving, UpstreamServer],
) -> None:
    running, cloud = server
    answers(cloud, arguments=json.dumps(ANSWER))
    tool = {"name": "f", "input_schema": SCHEMA}
    body = {**chat(), "max_tokens": 50, "tools": [tool]}

    deltas = [one["delta"] for one in events(running, "/v1/messages", body) if "delta" in one]
    assert json.loads("".join(one.get("partial_json", "") for one in deltas)) == WHOLE
    (use,) = whole(running, "/v1/messages", body)["content"]
    assert use["input"] == WHOLE

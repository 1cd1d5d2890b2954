"""The official Anthropic client against the real server, in front of a script."""

from collections.abc import Iterator

import anthropic
import httpx2
import pytest

from serving import Serving, serving
from tokenworks.errors import QueueFullError
from tokenworks.gateway.backend import Chunk, ToolCallPiece
from tokenworks.gateway.scripted import ScriptedBackend

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "name": "weather",
    "description": "The weather of a town",
    "input_schema": {"type": "object", "properties": {"town": {"type": "string"}}},
}
CALLS = (
    "Let me look. ",
    Chunk(text="", tool_calls=(ToolCallPiece(index=0, id="c1", name="weather"),)),
    Chunk(text="", tool_calls=(ToolCallPiece(index=0, arguments='{"town": '),)),
    Chunk(text="", tool_calls=(ToolCallPiece(index=0, arguments='"Bern"}'),)),
    Chunk(text="", tool_calls=(ToolCallPiece(index=1, id="c2", name="weather"),)),
    Chunk(text="", tool_calls=(ToolCallPiece(index=1, arguments="{}"),)),
)


def client_of(server: Serving) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60.0)


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(("Hel", "lo, ", "wor", "ld"), model="m")


@pytest.fixture
def server(backend: ScriptedBackend) -> Iterator[Serving]:
    with serving(backend) as running:
        yield running


def test_a_message_is_answered_whole(server: Serving) -> None:
    with client_of(server) as client:
        message = client.messages.create(model="M", max_tokens=4, messages=HELLO)

    assert message.type == "message"
    assert message.role == "assistant"
    assert message.model == "m"
    assert [block.text for block in message.content if block.type == "text"] == ["Hello, world"]
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens == 1
    assert message.usage.output_tokens == 4


def test_a_stream_adds_up_to_the_whole_message(server: Serving) -> None:
    with (
        client_of(server) as client,
        client.messages.stream(model="m", max_tokens=3, messages=HELLO) as stream,
    ):
        text = "".join(stream.text_stream)
        message = stream.get_final_message()

    assert text == "Hello, wor"
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 3


def test_the_conversation_arrives_as_it_was_meant(
    server: Serving, backend: ScriptedBackend
) -> None:
    picture = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    with client_of(server) as client, pytest.raises(anthropic.BadRequestError, match="image"):
        client.messages.create(
            model="m",
            max_tokens=4,
            messages=[{"role": "user", "content": [{"type": "image", "source": picture}]}],
        )
    with client_of(server) as client:
        client.messages.create(
            model="m",
            max_tokens=4,
            system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            extra_body={"temperature": 0.5},  # newer clients do not name it
            stop_sequences=["END"],
            messages=[
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": [{"type": "text", "text": "second"}]},
                {"role": "user", "content": [{"type": "text", "text": "third"}]},
            ],
        )
    asked = backend.requests[-1]

    assert asked.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "second"},
        {"role": "user", "content": "third"},
    ]
    assert (asked.temperature, asked.stop, asked.max_tokens) == (0.5, ("END",), 4)


def test_tools_are_called_and_their_results_come_back() -> None:
    backend = ScriptedBackend(CALLS, model="m", abilities=("tools",), reason="tool_calls")
    asked = {"model": "m", "max_tokens": 50, "tools": [WEATHER]}
    with serving(backend) as server, client_of(server) as client:
        whole = client.messages.create(**asked, messages=HELLO)
        with client.messages.stream(**asked, messages=HELLO) as stream:
            streamed = stream.get_final_message()
        client.messages.create(
            **asked,
            messages=[
                *HELLO,
                {"role": "assistant", "content": whole.content},
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "c1", "content": "sunny"},
                        {"type": "tool_result", "tool_use_id": "c2", "is_error": True},
                        {"type": "text", "text": "And now?"},
                    ],
                },
            ],
        )
    calls = [block for block in whole.content if block.type == "tool_use"]

    assert [(call.id, call.name, call.input) for call in calls] == [
        ("c1", "weather", {"town": "Bern"}),
        ("c2", "weather", {}),
    ]
    assert whole.stop_reason == "tool_use"
    assert [block.model_dump() for block in streamed.content] == [
        block.model_dump() for block in whole.content
    ]
    assert backend.requests[0].further == {
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "The weather of a town",
                    "parameters": WEATHER["input_schema"],
                },
            }
        ]
    }
    messages = backend.requests[-1].messages
    assert messages is not None
    assert [message["role"] for message in messages[1:]] == ["assistant", "tool", "tool", "user"]
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == '{"town":"Bern"}'
    assert messages[3]["content"] == "Error: "


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temprature": 1}, "id you mean 'temperature'"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"messages": []}, "messages"),
        ({"tool_choice": {"type": "any"}}, "only allowed with tools"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]}, "messages"),
        ({"model": "other"}, "not served here"),
    ],
)
def test_what_is_wrong_is_said_in_the_api_s_own_shape(
    server: Serving, wrong: dict[str, object], said: str
) -> None:
    body = {"model": "m", "max_tokens": 4, "messages": HELLO} | wrong
    answer = httpx2.post(f"{server.url}/v1/messages", json=body)

    assert answer.status_code in (400, 404)
    assert answer.json()["type"] == "error"
    assert said in answer.json()["error"]["message"]


def test_a_full_queue_says_when_to_come_back() -> None:
    full = QueueFullError("full", retry_after_s=7)
    with (
        serving(ScriptedBackend(model="m", fault=full)) as server,
        client_of(server) as client,
        pytest.raises(anthropic.RateLimitError) as refused,
    ):
        client.messages.create(model="m", max_tokens=4, messages=HELLO)

    assert refused.value.response.headers["retry-after"] == "7"


def test_a_stream_that_breaks_off_ends_in_an_error_event() -> None:
    backend = ScriptedBackend(("a", "b"), model="m", fault=RuntimeError("secret"), fault_at=1)
    with (
        serving(backend) as server,
        client_of(server) as client,
        pytest.raises(anthropic.APIStatusError) as broken,
        client.messages.stream(model="m", max_tokens=4, messages=HELLO) as stream,
    ):
        list(stream.text_stream)

    assert "secret" not in str(broken.value)

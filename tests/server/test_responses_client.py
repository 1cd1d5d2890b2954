"""The responses API by the official client against the real server, in front of a script."""

from collections.abc import Iterator

import httpx2
import openai
import pytest

from serving import Serving, serving
from tokenworks.gateway.backend import Chunk, ToolCallPiece
from tokenworks.gateway.scripted import ScriptedBackend

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
CALLS = (
    Chunk(text="", tool_calls=(ToolCallPiece(index=0, id="c1", name="weather"),)),
    Chunk(text="", tool_calls=(ToolCallPiece(index=0, arguments='{"town": '),)),
    Chunk(text="", tool_calls=(ToolCallPiece(index=0, arguments='"Bern"}'),)),
)
# "must be present and non-null" of the Open Responses specification
ALWAYS_THERE = (
    *("presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "top_p"),
    *("tool_choice", "truncation", "background", "service_tier", "tools"),
)


def client_of(server: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60.0)


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(("Hel", "lo, ", "wor", "ld"), model="m")


@pytest.fixture
def server(backend: ScriptedBackend) -> Iterator[Serving]:
    with serving(backend) as running:
        yield running


def test_a_response_is_whole(server: Serving) -> None:
    with client_of(server) as client:
        response = client.responses.create(model="M", input="hello", metadata={"a": "b"})

    assert response.status == "completed"
    assert response.output_text == "Hello, world"
    assert response.model == "m"
    assert response.metadata == {"a": "b"}
    assert response.usage is not None
    assert response.usage.output_tokens == 4
    said = response.model_dump()
    assert [name for name in ALWAYS_THERE if said.get(name) is None] == []


def test_a_response_that_is_cut_says_by_what(server: Serving) -> None:
    with client_of(server) as client:
        response = client.responses.create(model="m", input="hello", max_output_tokens=2)

    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_the_events_of_a_stream_are_numbered_and_add_up(server: Serving) -> None:
    with client_of(server) as client:
        events = list(client.responses.create(model="m", input="hello", stream=True))

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events if not event.type.endswith("delta")] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    last = events[-1]
    assert last.type == "response.completed"
    assert "".join(deltas) == last.response.output_text == "Hello, world"


def test_a_conversation_goes_on_from_what_is_kept(
    server: Serving, backend: ScriptedBackend
) -> None:
    with client_of(server) as client:
        first = client.responses.create(model="m", input="one", instructions="Be brief.")
        for event in client.responses.create(
            model="m", input="two", previous_response_id=first.id, stream=True
        ):
            last = event
        assert last.type == "response.completed"
        client.responses.create(model="m", input="three", previous_response_id=last.response.id)
        read = client.responses.retrieve(last.response.id)
        listed = client.responses.input_items.list(last.response.id)

    assert read.output_text == "Hello, world"
    assert [item.role for item in listed.data] == ["user", "assistant", "user"]
    assert backend.requests[0].messages is not None
    assert backend.requests[0].messages[0] == {"role": "system", "content": "Be brief."}
    # Instructions are of one response alone; what was said stays.
    assert backend.requests[-1].messages == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "Hello, world"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "Hello, world"},
        {"role": "user", "content": "three"},
    ]


def test_what_is_deleted_or_was_never_kept_or_is_another_s_is_not_there(server: Serving) -> None:
    with client_of(server) as client:
        kept = client.responses.create(model="m", input="one")
        unkept = client.responses.create(model="m", input="one", store=False)
        client.responses.delete(kept.id)
        for identity in (kept.id, unkept.id, "resp_0"):
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(identity)
            with pytest.raises(openai.NotFoundError):
                client.responses.create(model="m", input="x", previous_response_id=identity)
        another = client.responses.create(model="m", input="one")
    headers = {"authorization": "Bearer somebody-else"}
    seen = httpx2.get(f"{server.url}/v1/responses/{another.id}", headers=headers)

    assert seen.status_code == 404


def test_tools_are_called_and_their_results_come_back() -> None:
    backend = ScriptedBackend(CALLS, model="m", abilities=("tools",), reason="tool_calls")
    with serving(backend) as server, client_of(server) as client:
        whole = client.responses.create(model="m", input="weather?", tools=[TOOL])
        events = list(
            client.responses.create(model="m", input="weather?", tools=[TOOL], stream=True)
        )
        client.responses.create(
            model="m",
            tools=[TOOL],
            previous_response_id=whole.id,
            input=[{"type": "function_call_output", "call_id": "c1", "output": "sunny"}],
        )
    call = whole.output[0]
    done = [event for event in events if event.type == "response.function_call_arguments.done"]

    assert call.type == "function_call"
    assert (call.call_id, call.name, call.arguments) == ("c1", "weather", '{"town": "Bern"}')
    assert [event.arguments for event in done] == ['{"town": "Bern"}']
    messages = backend.requests[-1].messages
    assert messages is not None
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"] == "c1"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"background": True}, "background"),
        ({"temprature": 1}, "id you mean 'temperature'"),
        ({"input": []}, "nothing to answer"),
        ({"input": [{"type": "computer_call"}]}, "input"),
        ({"tool_choice": "required"}, "only allowed with tools"),
        ({"truncation": "auto"}, "truncation"),
    ],
)
def test_what_is_wrong_is_named(server: Serving, wrong: dict[str, object], said: str) -> None:
    answer = httpx2.post(
        f"{server.url}/v1/responses", json={"model": "m", "input": "hello"} | wrong
    )

    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]

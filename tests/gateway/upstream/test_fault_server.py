"""The tests' upstream is no private dialect: the official clients take what it says."""

import json
from collections.abc import Iterator

import anthropic
import openai
import pytest

from upstream_server import Script, UpstreamServer, upstream_server

ASKED = [{"role": "user", "content": "Hi"}]
CALLING = Script(
    pieces=("So ", "be it"), tool_calls=(("c1", "look", '{"at": "it"}'),), finish="tool_calls"
)


@pytest.fixture
def server() -> Iterator[UpstreamServer]:
    with upstream_server(key="k") as running:
        yield running


@pytest.fixture
def by_openai(server: UpstreamServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def by_anthropic(server: UpstreamServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.address, api_key="k", max_retries=0) as client:
        yield client


def test_openai_s_client_reads_whole_answers_and_streams(
    server: UpstreamServer, by_openai: openai.OpenAI
) -> None:
    server.script = CALLING
    whole = by_openai.chat.completions.create(model="m", messages=ASKED)
    with by_openai.chat.completions.stream(
        model="m", messages=ASKED, stream_options={"include_usage": True}
    ) as events:
        for _ in events:
            pass
        streamed = events.get_final_completion()

    for reply in (whole, streamed):
        message = reply.choices[0].message
        assert message.content == "So be it"
        assert message.tool_calls
        assert message.tool_calls[0].function.arguments == '{"at": "it"}'
        assert reply.choices[0].finish_reason == "tool_calls"
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 3


def test_openai_s_client_reads_texts_embeddings_and_models(
    server: UpstreamServer, by_openai: openai.OpenAI
) -> None:
    assert by_openai.completions.create(model="m", prompt="x").choices[0].text == "Hello, world!"
    pieces = by_openai.completions.create(model="m", prompt="x", stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == "Hello, world!"
    coded = by_openai.embeddings.create(model="m", input=["a"])
    plain = by_openai.embeddings.create(model="m", input=["a"], encoding_format="float")
    assert coded.data[0].embedding == pytest.approx(plain.data[0].embedding)
    assert [model.id for model in by_openai.models.list()] == ["their-model"]


def test_anthropic_s_client_reads_whole_answers_streams_and_models(
    server: UpstreamServer, by_anthropic: anthropic.Anthropic
) -> None:
    server.script = CALLING
    whole = by_anthropic.messages.create(model="m", max_tokens=9, messages=ASKED)
    with by_anthropic.messages.stream(model="m", max_tokens=9, messages=ASKED) as events:
        streamed = events.get_final_message()

    for reply in (whole, streamed):
        assert reply.stop_reason == "tool_use"
        said, called = reply.content
        assert said.type == "text"
        assert said.text == "So be it"
        assert called.type == "tool_use"
        assert called.input == {"at": "it"}
        assert reply.usage.output_tokens == 3
    assert [model.id for model in by_anthropic.models.list()] == ["their-model"]


def test_both_clients_see_faults_as_faults(
    server: UpstreamServer, by_openai: openai.OpenAI, by_anthropic: anthropic.Anthropic
) -> None:
    server.script = Script(fault="status", status=429, headers={"retry-after": "1"})
    with pytest.raises(openai.RateLimitError):
        by_openai.chat.completions.create(model="m", messages=ASKED)
    with pytest.raises(anthropic.RateLimitError):
        by_anthropic.messages.create(model="m", max_tokens=9, messages=ASKED)

    server.script = Script(fault="error_event", at=3)
    with pytest.raises(openai.APIError, match="scripted"):
        list(by_openai.chat.completions.create(model="m", messages=ASKED, stream=True))
    with pytest.raises(anthropic.APIError, match="scripted"):
        list(by_anthropic.messages.create(model="m", max_tokens=9, messages=ASKED, stream=True))

    with (
        openai.OpenAI(base_url=server.url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_a_script_survives_being_sent() -> None:
    sent = json.dumps({"pieces": ["a", "b"], "tool_calls": [["c", "f", "{}"]], "at": 2})

    script = Script.of(json.loads(sent))

    assert script == Script(pieces=("a", "b"), tool_calls=(("c", "f", "{}"),), at=2)

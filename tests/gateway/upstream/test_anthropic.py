"""The dialect of Anthropic, without a server: what is sent, and what is made of events."""

import json
from typing import Any

import pytest

from tokenworks.errors import BackendError, ConfigError, RequestError
from tokenworks.gateway.backend import Completion
from tokenworks.gateway.upstream.anthropic import AnthropicDialect, conversation_of
from tokenworks.gateway.upstream.openai import embeddings_call
from tokenworks.gateway.upstream.settings import UpstreamSettings

USER = {"role": "user", "content": "Hi"}
HI = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
FUNCTION = {
    "name": "f",
    "description": "does f",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    "strict": True,
}
TOOL = {"type": "function", "function": FUNCTION}


def settings_of(**changes: Any) -> UpstreamSettings:
    given: dict[str, Any] = {
        "name": "there",
        "url": "https://api.example.com",
        "models": {"ours": "theirs"},
        "tier": "cloud",
        "dialect": "anthropic",
        "abilities": ("tools", "schema", "vision"),
    }
    return UpstreamSettings(**(given | changes))


def chat(**changes: Any) -> Completion:
    given: dict[str, Any] = {"request_id": "r", "model": "ours", "messages": [USER], "seed": 5}
    return Completion(**(given | changes))


def sent(request: Completion, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(
        AnthropicDialect(settings_of(**changes)).call(request, "theirs").body
    )
    return body


def test_a_plain_chat_says_no_more_than_was_asked() -> None:
    assert AnthropicDialect(settings_of()).call(chat(), "theirs").path == "/v1/messages"
    assert sent(chat(), answer_tokens=77) == {
        "model": "theirs",
        "messages": [HI],
        "max_tokens": 77,
        "stream": True,
    }


def test_what_is_ours_alone_is_never_sent() -> None:
    request = chat(request_id="secret-1", tenant="secret-2", public_prefix=1, deadline_s=3)

    assert "secret" not in json.dumps(sent(request))
    assert sent(request) == sent(chat())


def test_the_key_goes_into_its_own_header() -> None:
    dialect = AnthropicDialect(settings_of())

    assert dialect.key_fields("k") == {"anthropic-version": "2023-06-01", "x-api-key": "k"}
    assert dialect.key_fields("") == {"anthropic-version": "2023-06-01"}


def test_a_conversation_with_tools_is_translated_turn_by_turn() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    other = {"id": "c2", "type": "function", "function": {"name": "f", "arguments": ""}}
    system, turns = conversation_of(
        [
            {"role": "system", "content": "Be kind."},
            {"role": "system", "content": "Be short."},
            USER,
            {"role": "assistant", "content": "Let me see", "tool_calls": [call, other]},
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": "two"},
            {"role": "user", "content": "And?"},
        ]
    )

    assert system == "Be kind.\n\nBe short."
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == [
        {"type": "text", "text": "Let me see"},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
    ]
    assert turns[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
        {"type": "tool_result", "tool_use_id": "c2", "content": "two"},
        {"type": "text", "text": "And?"},
    ]


def test_images_are_passed_through_by_data_or_by_address() -> None:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    _, ((turn),) = conversation_of([{"role": "user", "content": parts}])

    assert turn["content"][1:] == [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
        },
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
    ]
    plain = {"type": "image_url", "image_url": {"url": "data:image/png,AAAA"}}
    with pytest.raises(RequestError, match="base64"):
        conversation_of([{"role": "user", "content": [plain]}])


@pytest.mark.parametrize(
    ("choice", "parallel", "said"),
    [
        (None, None, None),
        ("auto", None, None),
        ("required", None, {"type": "any"}),
        ("none", None, {"type": "none"}),
        ("none", False, {"type": "none"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"type": "function", "function": {"name": "f"}},
            False,
            {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_tools_and_their_choice_are_translated(
    choice: object, parallel: bool | None, said: object
) -> None:
    further: dict[str, object] = {"tools": [TOOL]}
    if choice is not None:
        further["tool_choice"] = choice
    if parallel is not None:
        further["parallel_tool_calls"] = parallel
    body = sent(chat(further=further))

    assert body["tools"] == [
        {
            "name": "f",
            "description": "does f",
            "input_schema": FUNCTION["parameters"],
            "strict": True,
        }
    ]
    assert body.get("tool_choice") == said


def test_schema_effort_and_sampling_are_translated() -> None:
    schema = {"type": "object", "properties": {}}
    named = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    further = {"response_format": named, "reasoning_effort": "low"}
    body = sent(
        chat(further=further, temperature=0.5, top_p=0.9, top_k=7, stop=("a",), max_tokens=9)
    )

    assert body["output_config"] == {
        "format": {"type": "json_schema", "schema": schema},
        "effort": "low",
    }
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.5, 0.9, 7)
    assert (body["stop_sequences"], body["max_tokens"]) == (["a"], 9)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"min_p": 0.1}, "min_p"),
        ({"presence_penalty": 1.0}, "presence_penalty"),
        ({"frequency_penalty": 1.0}, "frequency_penalty"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"logit_bias": ((1, 1.0),)}, "logit_bias"),
        ({"min_tokens": 1}, "min_tokens"),
        ({"n": 2}, "n"),
        ({"logprobs": 0}, "logprobs"),
        ({"template_options": {"a": 1}}, "chat_template_kwargs"),
        ({"temperature": 1.5}, "temperature"),
        ({"messages": None, "prompt": "x"}, "prompt"),
        ({"messages": [USER, {"role": "system", "content": "now"}]}, "messages"),
        ({"further": {"response_format": {"type": "json_object"}}}, "response_format"),
        ({"further": {"reasoning_effort": "minimal"}}, "reasoning_effort"),
        ({"further": {"tenant": "x"}}, "tenant"),
    ],
)
def test_what_this_dialect_cannot_say_is_refused_by_name(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as refused:
        sent(chat(**asked))

    assert (refused.value.param or "").startswith(param)


def test_arguments_that_are_no_object_are_refused() -> None:
    for arguments in ("[1]", "{", "[" * 100_000):
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
        with pytest.raises(RequestError, match="no JSON object"):
            conversation_of([{"role": "assistant", "content": None, "tool_calls": [call]}])


def test_an_answer_that_was_begun_is_prefilled_where_that_works() -> None:
    body = sent(chat(begun="Once"), continues="prefill")

    assert body["messages"][-1] == {
        "role": "assistant",
        "content": [{"type": "text", "text": "Once"}],
    }
    with pytest.raises(BackendError, match="cannot go on"):
        sent(chat(begun="Once"))
    with pytest.raises(ConfigError, match="cannot continue"):
        settings_of(continues="prefix")


def test_it_makes_no_embeddings() -> None:
    with pytest.raises(RequestError, match="no embeddings"):
        embeddings_call(settings_of(), "m", ["x"], {})

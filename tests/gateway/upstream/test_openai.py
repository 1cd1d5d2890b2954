"""The dialect of OpenAI, without a server: what is sent, and what is made of events."""

import json
from typing import Any

import pytest

from tokenworks.errors import BackendError, RequestError
from tokenworks.gateway.backend import Completion
from tokenworks.gateway.upstream.openai import OpenAIDialect, embeddings_call
from tokenworks.gateway.upstream.settings import UpstreamSettings

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
USER = {"role": "user", "content": "Hi"}


def dialect(**changes: Any) -> OpenAIDialect:
    given: dict[str, Any] = {
        "name": "there",
        "url": "https://api.example.com/v1",
        "models": {"ours": "theirs"},
        "tier": "cloud",
    }
    return OpenAIDialect(UpstreamSettings(**(given | changes)))


def chat(**changes: Any) -> Completion:
    given: dict[str, Any] = {"request_id": "r", "model": "ours", "messages": [USER], "seed": 5}
    return Completion(**(given | changes))


def sent(request: Completion, **changes: Any) -> dict[str, Any]:
    call = dialect(**changes).call(request, "theirs")
    body: dict[str, Any] = json.loads(call.body)
    return body


def test_a_plain_chat_says_no_more_than_was_asked() -> None:
    assert dialect().call(chat(), "theirs").path == "/chat/completions"
    assert sent(chat()) == {
        "model": "theirs",
        "messages": [USER],
        "seed": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_what_is_ours_alone_is_never_sent() -> None:
    request = chat(
        request_id="secret-1", tenant="secret-2", public_prefix=1, deadline_s=3, priority=7
    )
    body = dialect().call(request, "theirs").body

    assert b"secret" not in body
    assert json.loads(body) == sent(chat())


def test_sampling_and_limits_are_passed_on() -> None:
    request = chat(
        max_tokens=5,
        temperature=0.5,
        top_p=0.9,
        stop=("a", "b"),
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logit_bias=((7, -1.0),),
        n=2,
        logprobs=3,
    )
    body = sent(request)

    assert {name: body[name] for name in ("max_tokens", "temperature", "top_p", "n")} == {
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "n": 2,
    }
    assert (body["stop"], body["logit_bias"]) == (["a", "b"], {"7": -1.0})
    assert (body["presence_penalty"], body["frequency_penalty"]) == (0.1, 0.2)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)


def test_names_and_fields_that_differ_between_servers_are_settings() -> None:
    body = sent(chat(max_tokens=5), max_tokens_name="max_completion_tokens", omit=("seed",))

    assert body["max_completion_tokens"] == 5
    assert not {"max_tokens", "seed"} & set(body)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"top_k": 4}, "top_k"),
        ({"min_p": 0.1}, "min_p"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"min_tokens": 2}, "min_tokens"),
        ({"template_options": {"thinking": True}}, "chat_template_kwargs"),
    ],
)
def test_what_only_engines_know_is_sent_to_them_and_refused_for_others(
    asked: dict[str, Any], name: str
) -> None:
    with pytest.raises(RequestError) as refused:
        sent(chat(**asked))
    assert refused.value.param == name

    assert sent(chat(**asked), abilities=("extended",))[name] == next(iter(asked.values()))


@pytest.mark.parametrize(
    ("asked", "ability", "param"),
    [
        ({"further": {"tools": [TOOL]}}, "tools", "tools"),
        ({"further": {"response_format": SCHEMA}}, "schema", "response_format"),
        (
            {"messages": [{"role": "tool", "tool_call_id": "c", "content": "4"}]},
            "tools",
            "messages",
        ),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "vision", "messages"),
    ],
)
def test_what_a_backend_cannot_do_is_refused_by_name(
    asked: dict[str, Any], ability: str, param: str
) -> None:
    with pytest.raises(RequestError, match="'there' cannot") as refused:
        sent(chat(**asked))
    assert refused.value.param == param

    body = sent(chat(**asked), abilities=(ability,))
    for name, value in (asked.get("further") or asked).items():
        assert body[name] == value


def test_a_parameter_nobody_knows_is_refused() -> None:
    with pytest.raises(RequestError) as refused:
        sent(chat(further={"tenant": "x"}))

    assert refused.value.param == "tenant"


@pytest.mark.parametrize(
    ("how", "extra", "said"),
    [
        (
            "continue_final_message",
            {"continue_final_message": True, "add_generation_prompt": False},
            {},
        ),
        ("prefill", {}, {}),
        ("prefix", {}, {"prefix": True}),
    ],
)
def test_an_answer_that_was_begun_is_gone_on_with_as_the_backend_takes_it(
    how: str, extra: dict[str, Any], said: dict[str, Any]
) -> None:
    body = sent(chat(begun="Once"), continues=how)

    assert body["messages"] == [USER, {"role": "assistant", "content": "Once", **said}]
    assert {name: body[name] for name in extra} == extra
    assert ("continue_final_message" in body) == bool(extra)


def test_a_client_s_own_beginning_is_part_of_what_was_begun() -> None:
    prefilled = [USER, {"role": "assistant", "content": "On"}]
    request = chat(messages=prefilled, begun="ce")

    assert sent(request, continues="prefill")["messages"][-1]["content"] == "Once"
    assert prefilled[-1]["content"] == "On"


def test_a_backend_that_cannot_continue_says_so_instead_of_beginning_again() -> None:
    with pytest.raises(BackendError, match="cannot go on"):
        sent(chat(begun="Once"))
    with pytest.raises(BackendError, match="cannot go on"):
        sent(chat(messages=None, prompt=[1, 2], begun="Once"), continues="prefill")


def test_a_text_completion_continues_anywhere() -> None:
    request = chat(messages=None, prompt="Once", begun=" upon", logprobs=2, echo=True)
    call = dialect().call(request, "theirs")
    body = json.loads(call.body)

    assert call.path == "/completions"
    assert (body["prompt"], body["logprobs"], body["echo"]) == ("Once upon", 2, True)
    assert body["max_tokens"] == 4096  # this API's own default would be 16


def test_text_that_is_no_text_is_refused() -> None:
    with pytest.raises(RequestError, match="cannot be sent"):
        sent(chat(messages=[{"role": "user", "content": "\ud800"}]))


def test_embeddings_are_passed_through_by_name() -> None:
    settings = UpstreamSettings(
        name="there", url="https://a.com/v1", models={"a": "b"}, tier="cloud"
    )
    call = embeddings_call(settings, "theirs", ["x"], {"dimensions": 4})

    assert call.path == "/embeddings"
    assert json.loads(call.body) == {"model": "theirs", "input": ["x"], "dimensions": 4}
    with pytest.raises(RequestError):
        embeddings_call(settings, "theirs", ["x"], {"tenant": "t"})

"""What is made of the events of OpenAI's streams, without a server."""

import json
from typing import Any

import pytest

from tokenworks.errors import BackendError, BackendLost, RequestError
from tokenworks.gateway.backend import Chunk, Completion, ToolCallPiece, Usage
from tokenworks.gateway.upstream.events import Event
from tokenworks.gateway.upstream.openai_events import OpenAIAnswers


def chat(content: str = "Hi", n: int = 1) -> Completion:
    messages = [{"role": "user", "content": content}]
    return Completion(request_id="r", model="ours", messages=messages, n=n)


def told(*events: object, request: Completion | None = None) -> list[Chunk]:
    """The chunks of a whole reply."""
    answers = OpenAIAnswers("there", request or chat())
    chunks = [chunk for event in events for chunk in answers.take(as_event(event))]
    return chunks + list(answers.end())


def as_event(said: object) -> Event:
    return Event(b"", said if isinstance(said, bytes) else json.dumps(said).encode())


def delta(finish: str | None = None, index: int = 0, **said: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": said, "finish_reason": finish}]}


USAGE = {
    "choices": [],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 1},
    },
}


def test_an_answer_becomes_chunks_and_the_last_has_usage() -> None:
    chunks = told(
        delta(role="assistant", content=""),
        delta(reasoning_content="Hm"),
        delta(content="Hel"),
        delta(content="lo"),
        delta("stop"),
        USAGE,
        b"[DONE]",
    )

    assert [(chunk.reasoning, chunk.text) for chunk in chunks] == [
        ("Hm", ""),
        ("", "Hel"),
        ("", "lo"),
        ("", ""),
    ]
    assert [chunk.finish_reason for chunk in chunks] == [None, None, None, "stop"]
    assert chunks[-1].usage == Usage(
        prompt_tokens=9, completion_tokens=4, cached_tokens=8, reasoning_tokens=1
    )
    assert sum(chunk.tokens for chunk in chunks) == 4


def test_text_beside_a_finish_reason_is_not_held_back() -> None:
    answers = OpenAIAnswers("there", chat())

    assert [c.text for c in answers.take(as_event(delta("length", content="all")))] == ["all"]
    assert answers.finished
    assert not answers.complete
    (last,) = answers.take(as_event(USAGE))
    assert (last.finish_reason, answers.complete) == ("length", True)
    assert list(answers.take(as_event(b"[DONE]"))) == list(answers.end()) == []


def test_usage_in_the_finishing_event_or_in_every_event_is_understood() -> None:
    usage = USAGE["usage"]
    once = told({**delta(content="a")}, {**delta("stop"), "usage": usage})
    always = told({**delta(content="a"), "usage": {"prompt_tokens": 1}}, delta("stop"), USAGE)

    for chunks in (once, always):
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.prompt_tokens == 9
        assert sum(chunk.usage is not None for chunk in chunks) == 1


def test_a_backend_that_counts_nothing_gets_an_estimate_that_says_so() -> None:
    answers = OpenAIAnswers("there", chat("x" * 40))
    events = (delta(content="a"), delta(content="b"), delta("stop"), b"[DONE]")
    chunks = [chunk for event in events for chunk in answers.take(as_event(event))]

    assert chunks[-1].usage == Usage(prompt_tokens=10, completion_tokens=2)
    assert answers.estimated


def test_several_answers_each_end_once_and_the_last_has_usage() -> None:
    chunks = told(
        delta(content="a", index=0),
        delta(content="b", index=1),
        delta("stop", index=1),
        delta("length", index=0),
        USAGE,
        request=chat(n=2),
    )

    assert [(c.index, c.finish_reason) for c in chunks if c.finish_reason] == [
        (1, "stop"),
        (0, "length"),
    ]
    assert [chunk.usage is not None for chunk in chunks] == [False, False, False, True]


def test_tool_calls_come_in_pieces() -> None:
    def call(**said: Any) -> dict[str, Any]:
        return delta(tool_calls=[said])

    chunks = told(
        call(index=0, id="c1", type="function", function={"name": "f", "arguments": ""}),
        call(index=0, function={"arguments": '{"a"'}),
        call(index=0, function={"arguments": ": 1}"}),
        call(index=1, id="c2", function={"name": "g", "arguments": "{}"}),
        delta("tool_calls"),
        USAGE,
    )
    pieces = [piece for chunk in chunks for piece in chunk.tool_calls]

    assert pieces == [
        ToolCallPiece(index=0, id="c1", name="f"),
        ToolCallPiece(index=0, arguments='{"a"'),
        ToolCallPiece(index=0, arguments=": 1}"),
        ToolCallPiece(index=1, id="c2", name="g", arguments="{}"),
    ]
    assert chunks[-1].finish_reason == "tool_calls"


def test_tool_calls_without_numbers_are_told_apart_by_their_ids() -> None:
    def call(identity: str, arguments: str) -> dict[str, Any]:
        return {"id": identity, "function": {"name": "f", "arguments": arguments}}

    chunks = told(
        delta(tool_calls=[call("a", "{}"), call("b", "{")]),
        delta(tool_calls=[{"function": {"arguments": "}"}}]),
        delta("tool_calls"),
    )

    assert [piece.index for chunk in chunks for piece in chunk.tool_calls] == [0, 1, 1]


def test_logprobs_of_a_chat_and_of_a_completion_are_read_alike() -> None:
    one = {"token": "a", "logprob": -0.5, "bytes": [97]}
    said = {"content": [{**one, "top_logprobs": [one]}]}
    (first, *_) = told({"choices": [{"delta": {"content": "a"}, "logprobs": said}]}, delta("stop"))
    old = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5}]}
    (second, *_) = told({"choices": [{"text": "a", "logprobs": old}]}, delta("stop"))

    assert first.logprobs == second.logprobs
    assert (first.logprobs[0].raw, first.logprobs[0].logprob) == (b"a", -0.5)
    assert first.logprobs[0].alternatives[0].text == "a"


@pytest.mark.parametrize(
    "nonsense",
    [
        b'{"choices":[{"index":0,"del',
        b"[1]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        delta(content=7),
        delta(content="x", index=1),
        delta(content="x", index=-1),
        delta("abort"),
        {"choices": [], "usage": {"prompt_tokens": -1}},
        {"choices": [], "usage": {"completion_tokens": 10**18}},
        delta(tool_calls=[{"index": 10**9}]),
    ],
)
def test_nonsense_breaks_off_and_is_not_shown(nonsense: object) -> None:
    for begun, kind in (([], BackendError), ([delta(content="a")], BackendLost)):
        with pytest.raises(BackendError, match="'there' broke off") as broken:
            told(*begun, nonsense)

        assert type(broken.value) is kind
        assert len(str(broken.value)) < 200


def test_an_answer_goes_no_further_than_its_end() -> None:
    with pytest.raises(BackendLost):
        told(delta(content="a"), delta("stop"), delta(content="b"))


@pytest.mark.parametrize("events", [[], [b"[DONE]"], [delta(role="assistant"), b"[DONE]"]])
def test_an_answer_that_never_began_is_an_error_anybody_may_retry(events: list[object]) -> None:
    with pytest.raises(BackendError, match="without a finish reason") as broken:
        told(*events)

    assert not isinstance(broken.value, BackendLost)


def test_an_answer_without_a_finish_reason_is_lost_even_if_it_says_done() -> None:
    for rest in ([], [b"[DONE]"], [USAGE, b"[DONE]"]):
        with pytest.raises(BackendLost, match="without a finish reason"):
            told(delta(content="a"), *rest)


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "secret prompt", "type": "server_error", "code": None}},
        {"error": "secret prompt"},
        {"object": "error", "message": "secret prompt"},
    ],
)
def test_an_error_among_the_events_is_one_and_its_text_is_not_shown(error: object) -> None:
    with pytest.raises(BackendLost, match="reports an error") as lost:
        told(delta(content="a"), error)
    with pytest.raises(BackendError) as failed:
        told(error)

    assert not isinstance(failed.value, BackendLost)
    assert "secret" not in str(lost.value) + str(failed.value)


def test_an_error_with_a_status_before_any_text_means_what_the_status_means() -> None:
    with pytest.raises(RequestError):
        told({"error": {"message": "too long", "code": 400}})
    with pytest.raises(BackendError, match="no more for now"):
        told({"error": {"message": "slow down", "code": 429}})

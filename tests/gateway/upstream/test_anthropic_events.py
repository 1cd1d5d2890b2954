"""What is made of the events of Anthropic's streams, without a server."""

import json
from typing import Any

import pytest

from tokenworks.errors import BackendError, BackendLost
from tokenworks.gateway.backend import Chunk, Completion, ToolCallPiece, Usage
from tokenworks.gateway.upstream.anthropic_events import AnthropicAnswers
from tokenworks.gateway.upstream.events import Event

REQUEST = Completion(request_id="r", model="ours", messages=[{"role": "user", "content": "Hi"}])


def told(*events: dict[str, Any]) -> list[Chunk]:
    answers = AnthropicAnswers("there", REQUEST)
    read = (Event(b"", json.dumps(event).encode()) for event in events)
    chunks = [chunk for event in read for chunk in answers.take(event)]
    return chunks + list(answers.end())


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **said: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": said}


def stop(reason: str, **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


STARTED = {
    "type": "message_start",
    "message": {
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 2,
            "output_tokens": 1,
        }
    },
}
STOPPED = {"type": "message_stop"}


def test_an_answer_becomes_chunks_and_the_last_has_usage() -> None:
    chunks = told(
        STARTED,
        {"type": "ping"},
        start(0, type="thinking", thinking=""),
        delta(0, type="thinking_delta", thinking="Hm"),
        delta(0, type="signature_delta", signature="x"),
        {"type": "content_block_stop", "index": 0},
        start(1, type="text", text=""),
        delta(1, type="text_delta", text="Hel"),
        delta(1, type="text_delta", text="lo"),
        {"type": "content_block_stop", "index": 1},
        {"type": "something_new"},
        stop("end_turn", output_tokens=6, output_tokens_details={"thinking_tokens": 2}),
        STOPPED,
    )

    assert [(chunk.reasoning, chunk.text) for chunk in chunks] == [
        ("Hm", ""),
        ("", "Hel"),
        ("", "lo"),
        ("", ""),
    ]
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage == Usage(
        prompt_tokens=10, completion_tokens=6, cached_tokens=3, reasoning_tokens=2
    )
    assert sum(chunk.tokens for chunk in chunks) == 6


def test_tool_calls_are_numbered_and_always_have_arguments() -> None:
    chunks = told(
        STARTED,
        start(0, type="text", text="So"),
        start(1, type="tool_use", id="c1", name="f", input={}),
        delta(1, type="input_json_delta", partial_json='{"a":'),
        delta(1, type="input_json_delta", partial_json=" 1}"),
        {"type": "content_block_stop", "index": 1},
        start(2, type="server_tool_use", id="s", name="search"),
        delta(2, type="input_json_delta", partial_json="{}"),
        {"type": "content_block_stop", "index": 2},
        start(3, type="tool_use", id="c2", name="g", input={}),
        delta(3, type="input_json_delta", partial_json=""),
        {"type": "content_block_stop", "index": 3},
        stop("tool_use", output_tokens=9),
        STOPPED,
    )

    assert [piece for chunk in chunks for piece in chunk.tool_calls] == [
        ToolCallPiece(index=0, id="c1", name="f"),
        ToolCallPiece(index=0, arguments='{"a":'),
        ToolCallPiece(index=0, arguments=" 1}"),
        ToolCallPiece(index=1, id="c2", name="g"),
        ToolCallPiece(index=1, arguments="{}"),
    ]
    assert (chunks[0].text, chunks[-1].finish_reason) == ("So", "tool_calls")


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
    ],
)
def test_stop_reasons_are_translated(reason: str, ours: str) -> None:
    assert told(STARTED, stop(reason, output_tokens=1), STOPPED)[-1].finish_reason == ours


def test_an_answer_whose_reason_is_known_is_complete_without_its_last_event() -> None:
    (last,) = told(STARTED, stop("end_turn", output_tokens=1))

    assert last.usage is not None


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "error": {"type": "overloaded_error", "message": "secret"}},
        STOPPED,
        stop("pause_turn"),
        delta(0, type="text_delta", text=7),
        {"type": "message_delta", "usage": {"output_tokens": -5}},
    ],
)
def test_errors_and_nonsense_break_off(event: dict[str, Any]) -> None:
    with pytest.raises(BackendLost) as lost:
        told(STARTED, delta(0, type="text_delta", text="a"), event)
    with pytest.raises(BackendError) as failed:
        told(STARTED, event)

    assert not isinstance(failed.value, BackendLost)
    assert "secret" not in str(lost.value) + str(failed.value)

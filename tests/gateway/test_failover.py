import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest

from tokenworks.errors import BackendError, BackendLost, QueueFullError, RequestError
from tokenworks.gateway.backend import Chunk, Completion, ToolCallPiece
from tokenworks.gateway.failover import (
    Attempt,
    Outcome,
    Resumption,
    Streams,
    WhenBroken,
    answer,
)
from tokenworks.gateway.scripted import ScriptedBackend

STORY = ("One ", "two ", "three ", "four ", "five.")
REQUEST = Completion(request_id="r", model="m", messages=[{"role": "user", "content": "Count."}])
LOST = BackendLost("the connection was reset")


class Continuing:
    """A backend that goes on with what was begun, and remembers how it was asked."""

    def __init__(self, script: Sequence[str] = STORY) -> None:
        self.asked: list[Completion] = []
        self._text = "".join(script)

    async def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
        self.asked.append(request)
        assert self._text.startswith(request.begun)
        for letter in self._text[len(request.begun) :]:
            yield Chunk(text=letter, tokens=1)
        yield Chunk(text="", finish_reason="stop")


def attempt(backend: Streams, name: str = "b", resumption: Resumption = "none") -> Attempt:
    return Attempt(name=name, backend=backend, request=REQUEST, resumption=lambda of: resumption)


def told(
    *attempts: Attempt, when_broken: WhenBroken = "error", outcome: Outcome | None = None
) -> list[Chunk]:
    async def collect() -> list[Chunk]:
        chunks = answer(attempts, outcome or Outcome(), when_broken=when_broken)
        return [chunk async for chunk in chunks]

    return asyncio.run(collect())


def text(chunks: Sequence[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def test_what_fails_before_the_first_piece_goes_to_the_next_backend_unseen() -> None:
    broken = ScriptedBackend(STORY, fault=BackendError("no route"))
    whole = ScriptedBackend(STORY)
    outcome = Outcome()

    chunks = told(attempt(broken, "a"), attempt(whole, "b"), outcome=outcome)

    assert text(chunks) == "".join(STORY)
    assert not any(chunk.restarted for chunk in chunks)
    assert [(tried.name, tried.error) for tried in outcome.tried] == [("a", "no route"), ("b", "")]


@pytest.mark.parametrize("error", [BackendError("busy"), QueueFullError("full", retry_after_s=1)])
def test_the_last_backend_s_error_is_told(error: Exception) -> None:
    broken = ScriptedBackend(STORY, fault=error)

    with pytest.raises(type(error)):
        told(attempt(broken), attempt(broken))
    assert len(broken.requests) == 2


def test_what_one_backend_does_not_take_another_may() -> None:
    picky = ScriptedBackend(STORY, fault=RequestError("n is 2, and may be 1"))

    assert text(told(attempt(picky), attempt(ScriptedBackend(STORY)))) == "".join(STORY)
    with pytest.raises(RequestError, match="n is 2"):  # what can be mended is what is said
        told(attempt(picky), attempt(ScriptedBackend(STORY, fault=BackendError("down"))))


def test_a_backend_that_may_not_see_what_was_answered_does_not_go_on_with_it() -> None:
    broken = ScriptedBackend(STORY, fault=LOST, fault_at=2)
    continuing = Continuing()
    blind = replace(attempt(continuing, "b", "continue"), may_see=lambda text: "two" not in text)

    with pytest.raises(BackendLost):
        told(attempt(broken), blind)
    assert continuing.asked == []


def test_a_backend_whose_own_key_is_refused_is_passed_over() -> None:
    refused = ScriptedBackend(STORY, fault=BackendError("its key is refused", retryable=False))

    assert text(told(attempt(refused), attempt(ScriptedBackend(STORY)))) == "".join(STORY)


@pytest.mark.parametrize("at", range(1, 5))
def test_the_same_engine_goes_on_with_the_identical_text(at: int) -> None:
    broken = ScriptedBackend(STORY, fault=LOST, fault_at=at)
    outcome = Outcome()

    chunks = told(
        attempt(broken, "a"), attempt(ScriptedBackend(STORY), "b", "replay"), outcome=outcome
    )

    assert text(chunks) == "".join(STORY)
    assert chunks[-1].finish_reason == "stop"
    assert outcome.tried[1].resumed == "replay"


def test_an_engine_that_says_something_else_is_not_joined() -> None:
    broken = ScriptedBackend(STORY, fault=LOST, fault_at=3)
    other = ScriptedBackend(("One ", "2 ", "3 "))

    with pytest.raises(BackendLost):
        told(attempt(broken), attempt(other, "b", "replay"))


@pytest.mark.parametrize("at", range(1, 5))
def test_a_backend_that_can_continue_adds_what_is_missing(at: int) -> None:
    broken = ScriptedBackend(STORY, fault=LOST, fault_at=at)
    continuing = Continuing()

    chunks = told(attempt(broken, "a"), attempt(continuing, "b", "continue"))

    assert text(chunks) == "".join(STORY)
    assert continuing.asked[0].begun == "".join(STORY[:at]).rstrip()


def test_a_continuation_may_be_as_long_as_is_left() -> None:
    bounded = replace(REQUEST, max_tokens=5)
    broken = ScriptedBackend(STORY, fault=LOST, fault_at=3)
    continuing = Continuing()
    second = replace(attempt(continuing, "b", "continue"), request=bounded)

    told(replace(attempt(broken), request=bounded), second)

    assert continuing.asked[0].max_tokens == 2


def test_what_two_backends_wrote_is_nobody_s_to_replay() -> None:
    def resumption(of: str) -> Resumption:
        return "continue" if of == "a" else "none"

    class BreaksOff(Continuing):
        async def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
            yield Chunk(text=" three", tokens=1)
            raise LOST

    broken = ScriptedBackend(STORY, fault=LOST, fault_at=2)
    second = Attempt(name="b", backend=BreaksOff(), request=REQUEST, resumption=resumption)
    third = Attempt(name="c", backend=Continuing(), request=REQUEST, resumption=resumption)

    with pytest.raises(BackendLost):
        told(attempt(broken, "a"), second, third)


def test_of_several_backends_one_that_can_go_on_is_asked_before_the_others() -> None:
    broken, other = ScriptedBackend(STORY, fault=LOST, fault_at=2), ScriptedBackend(STORY)

    chunks = told(
        attempt(broken, "a"),
        attempt(other, "b"),
        attempt(Continuing(), "c", "continue"),
        when_broken="restart",
    )

    assert text(chunks) == "".join(STORY)
    assert other.requests == []


def test_an_answer_nobody_can_go_on_with_ends_in_an_error_or_begins_again_marked() -> None:
    def broken() -> Attempt:
        return attempt(ScriptedBackend(STORY, fault=LOST, fault_at=2), "a")

    other = ScriptedBackend(("Eins ", "zwei."))
    with pytest.raises(BackendLost):
        told(broken(), attempt(other))
    assert other.requests == []

    chunks = told(broken(), attempt(other), when_broken="restart")
    marks = [index for index, chunk in enumerate(chunks) if chunk.restarted]
    assert len(marks) == 1
    assert text(chunks[: marks[0]]) == "One two "
    assert text(chunks[marks[0] :]) == "Eins zwei."


def test_tool_calls_are_never_joined() -> None:
    class Calling:
        async def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
            yield Chunk(text="", tool_calls=(ToolCallPiece(index=0, name="f", arguments='{"a'),))
            raise LOST

    with pytest.raises(BackendLost):
        told(attempt(Calling()), attempt(ScriptedBackend(STORY), "b", "replay"))

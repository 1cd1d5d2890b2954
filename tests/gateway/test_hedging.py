"""Two backends for one answer: who speaks first gives it, and what the other one took is known."""

import asyncio
from contextlib import aclosing

import pytest

from tokenworks.errors import BackendError, BackendLost
from tokenworks.gateway.backend import Completion
from tokenworks.gateway.failover import Attempt, Outcome, answer
from tokenworks.gateway.hedging import hedged
from tokenworks.gateway.scripted import ScriptedBackend

STORY = ("One ", "two ", "three.")
REQUEST = Completion(request_id="r", model="m", prompt="Count.")


def attempt(backend: ScriptedBackend, name: str) -> Attempt:
    return Attempt(name=name, backend=backend, request=REQUEST)


def told(first: ScriptedBackend, second: ScriptedBackend, after_s: float, outcome: Outcome) -> str:
    async def collect() -> str:
        both = hedged(attempt(first, "a"), attempt(second, "b"), after_s, outcome)
        return "".join([chunk.text async for chunk in answer((both,), outcome)])

    return asyncio.run(collect())


def test_a_hedge_takes_whoever_speaks_first_and_cancels_the_other() -> None:
    slow, quick = ScriptedBackend(STORY, delay_s=30), ScriptedBackend(("Quick.",))
    outcome = Outcome()

    assert told(slow, quick, 0.01, outcome) == "Quick."
    assert slow.closed_early == 1
    assert [(one.name, one.overtaken, one.reached) for one in outcome.tried] == [
        ("a", True, True),
        ("b", False, True),
    ]
    assert outcome.tried[1].usage is not None


def test_a_backend_that_speaks_in_time_is_asked_alone() -> None:
    slow, quick = ScriptedBackend(STORY, delay_s=30), ScriptedBackend(("Quick.",))
    outcome = Outcome()

    assert told(quick, slow, 5, outcome) == "Quick."
    assert slow.requests == []
    assert [one.name for one in outcome.tried] == ["a"]


def test_a_hedge_whose_first_backend_fails_asks_the_second_at_once() -> None:
    broken = ScriptedBackend(STORY, fault=BackendError("no route"))
    outcome = Outcome()

    assert told(broken, ScriptedBackend(("Here.",)), 30, outcome) == "Here."
    assert [(one.name, one.error, one.reached) for one in outcome.tried] == [
        ("a", "no route", False),
        ("b", "", True),
    ]


def test_where_both_fail_the_first_one_s_error_is_told_and_both_are_known() -> None:
    broken = ScriptedBackend(STORY, fault=BackendError("no route"))
    other = ScriptedBackend(STORY, fault=BackendLost("gone"))
    outcome = Outcome()

    with pytest.raises(BackendError, match="no route"):
        told(broken, other, 0.01, outcome)
    assert sorted((one.name, one.error) for one in outcome.tried) == [
        ("a", "no route"),
        ("b", "gone"),
    ]


def test_a_client_that_leaves_while_both_are_silent_has_asked_both() -> None:
    slow, slower = (ScriptedBackend(STORY, delay_s=30) for _ in range(2))
    outcome = Outcome()

    async def leave() -> None:
        both = hedged(attempt(slow, "a"), attempt(slower, "b"), 0.01, outcome)
        async with aclosing(answer((both,), outcome)) as chunks:
            async with asyncio.timeout(0.1):
                await anext(chunks)

    with pytest.raises(TimeoutError):
        asyncio.run(leave())
    assert (slow.closed_early, slower.closed_early) == (1, 1)
    assert sorted((one.name, one.reached) for one in outcome.tried) == [("a", True), ("b", True)]

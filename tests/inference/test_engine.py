"""The engine over scripted logits: an answer depends on its request, whatever happens around it."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenworks.errors import ConfigError
from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.base import Batch
from tokenworks.inference.executors.scripted import ScriptedExecutor, scripted_logits
from tokenworks.inference.messages import Failed, Generate, Sampling, Step, Token
from tokenworks.inference.sampler import sample
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.clock import ManualClock

VOCABULARY = 97


def make_engine(executor: ScriptedExecutor | None = None, **changes: Any) -> Engine:
    values = {"model_path": "", "model_id": "m", "max_sequences": 4, "max_batch_tokens": 32}
    settings = EngineSettings(**{**values, **changes})
    return Engine(executor or ScriptedExecutor(), settings, ManualClock())


def small_engine(pages: int) -> Engine:
    """An engine with exactly this many pages: the smallest memory that can be set holds them."""
    executor = ScriptedExecutor()
    executor.page_bytes = 2**20 // pages
    return make_engine(executor, kv_memory_mb=1)


def request(
    name: str, prompt: list[int], generated: list[int] | None = None, **sampling: Any
) -> Generate:
    return Generate(
        request_id=name,
        prompt=prompt,
        generated=generated or [],
        sampling=Sampling(**{"max_tokens": 10, "seed": 7, **sampling}),
    )


def answer(request: Generate) -> list[int]:
    """The tokens that a request must get, computed without any engine."""
    tokens = list(request.prompt)
    for index in range(request.sampling.max_tokens):
        logits = scripted_logits(np.array(tokens, np.int32), VOCABULARY)
        tokens.append(sample(logits, request.sampling, index).token)
        if tokens[-1] in request.sampling.stop_tokens:
            break
    return tokens[len(request.prompt) :]


def collect(step: Step | None, received: dict[str, list[Token]]) -> None:
    if step:
        assert not step.failed
        for token in step.tokens:
            received.setdefault(token.request_id, []).append(token)


def drain(engine: Engine, received: dict[str, list[Token]] | None = None) -> dict[str, list[Token]]:
    """Run until idle; each request's tokens."""
    received = {} if received is None else received
    while step := engine.step():
        engine.check_integrity()
        collect(step, received)
    assert not engine.busy
    return received


def ids(tokens: list[Token]) -> list[int]:
    return [token.token for token in tokens]


def test_an_idle_engine_does_nothing() -> None:
    assert make_engine().step() is None


def test_an_answer_ends_after_max_tokens() -> None:
    engine, wanted = make_engine(), request("a", [1, 2, 3])
    engine.submit(wanted)

    tokens = drain(engine)["a"]

    assert ids(tokens) == answer(wanted)
    assert [token.finish_reason for token in tokens] == [None] * 9 + ["length"]


def test_an_answer_ends_at_a_stop_token_which_is_delivered() -> None:
    engine = make_engine()
    stop = answer(request("a", [1, 2, 3]))[4]
    engine.submit(request("a", [1, 2, 3], stop_tokens=(stop,)))

    tokens = drain(engine)["a"]

    assert tokens[-1].token == stop
    assert tokens[-1].finish_reason == "stop"
    assert len(tokens) <= 5


def test_logprobs_come_only_if_asked_for() -> None:
    engine = make_engine()
    engine.submit(request("with", [1], logprobs=2))
    engine.submit(request("without", [1]))

    tokens = drain(engine)

    assert all(token.logprob is not None for token in tokens["with"])
    assert {len(token.alternatives) for token in tokens["with"]} == {2}
    assert all(token.logprob is None for token in tokens["without"])


def test_a_repeated_prompt_is_read_from_the_cache_and_answered_the_same() -> None:
    engine, prompt = make_engine(), list(range(40))
    engine.submit(request("a", prompt))
    first = drain(engine)["a"]
    engine.submit(request("b", prompt))
    second = drain(engine)["b"]

    assert ids(first) == ids(second)
    assert [token.cached_tokens for token in first] == [0] + [None] * 9
    assert [token.cached_tokens for token in second] == [39] + [None] * 9


def test_a_cancelled_request_gets_nothing_more_and_leaves_nothing() -> None:
    engine = make_engine()
    for name in "abcdef":
        engine.submit(request(name, [1] * 20))
    engine.step()
    engine.cancel("a")  # runs
    engine.cancel("f")  # waits
    engine.cancel("unknown")
    received = drain(engine)

    assert set(received) == set("bcde")


def test_cancelling_the_last_request_reports_an_idle_engine() -> None:
    engine = make_engine()
    engine.submit(request("a", [1] * 20))
    engine.step()
    engine.cancel("a")

    step = engine.step()

    assert step is not None
    assert (step.running, step.waiting, step.pages_used) == (0, 0, 0)
    assert engine.step() is None


def test_steps_say_how_often_a_request_gave_way() -> None:
    engine = small_engine(pages=5)
    for name, first in (("a", 1), ("b", 40)):
        engine.submit(request(name, list(range(first, first + 30)), max_tokens=20))
    said = []
    while step := engine.step():
        said.append(step.preempted)

    assert said[0] == 0
    assert said[-1] >= 1


def test_a_request_id_in_use_is_refused() -> None:
    engine = make_engine()
    engine.submit(request("a", [1]))

    refused = engine.submit(request("a", [2]))

    assert refused is not None
    assert refused.reason == "invalid"
    assert "'a' is in use" in refused.message


def test_requests_beyond_the_queue_are_refused_until_one_ends() -> None:
    engine = make_engine(max_sequences=2, queue_limit=3)
    for name in "abcde":
        assert engine.submit(request(name, [1])) is None

    refused = engine.submit(request("f", [1]))
    assert refused is not None
    assert refused.reason == "queue_full"
    assert refused.retry_after_s is not None

    engine.cancel("c")
    assert engine.submit(request("f", [1])) is None


def test_an_answer_that_was_begun_is_never_refused_for_those_who_came_meanwhile() -> None:
    engine = make_engine(queue_limit=0)
    for name in "abcd":
        assert engine.submit(request(name, [1])) is None
    resumed = request("resumed", [1, 2])
    begun = answer(resumed)[:3]

    assert engine.submit(request("new", [1])) is not None
    assert engine.submit(request("resumed", [1, 2], begun)) is None
    assert ids(drain(engine)["resumed"]) == answer(resumed)[3:]


def test_a_new_worker_takes_everything_that_the_old_one_held() -> None:
    old, new = (make_engine(max_sequences=2, queue_limit=3) for _ in range(2))
    held = [request(name, [1]) for name in "abcde"]
    for each in held:
        old.submit(each)
    old.step()

    assert [new.submit(each) for each in held] == [None] * 5


def test_the_context_is_what_the_kv_memory_holds() -> None:
    engine = small_engine(pages=3)

    assert engine.context_length == 48
    assert engine.submit(request("a", [1] * 38)) is None
    refused = engine.submit(request("b", [1] * 39))
    assert refused is not None
    assert refused.reason == "too_long"


def test_kv_memory_for_no_more_than_all_sequences_can_need_is_taken() -> None:
    assert make_engine(kv_memory_mb=1024).pages_total == 4 * 512 // 16


def test_too_little_kv_memory_is_a_configuration_error() -> None:
    executor = ScriptedExecutor()
    executor.page_bytes = 2**20

    with pytest.raises(ConfigError, match="kv_memory_mb 1 holds 1 pages"):
        make_engine(executor, kv_memory_mb=1)


class BrokenExecutor(ScriptedExecutor):
    """Computes NaN for every sequence that ends in token 13."""

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        logits = super().forward(batch)
        logits[batch.tokens[batch.logit_rows] == 13] = np.nan
        return logits


def test_bad_numbers_end_one_request_and_not_the_others() -> None:
    engine = make_engine(BrokenExecutor(vocabulary_size=14))
    engine.submit(request("bad", [1, 13]))
    engine.submit(request("good", [1, 2], max_tokens=1))

    step = engine.step()

    assert step is not None
    assert [token.request_id for token in step.tokens] == ["good"]
    (failed,) = step.failed
    assert isinstance(failed, Failed)
    assert failed.request_id == "bad"
    assert "nan" in failed.message
    engine.check_integrity()
    assert not engine.busy


def test_a_long_prompt_takes_forwards_within_the_budget() -> None:
    executor = ScriptedExecutor()
    engine = make_engine(executor)
    engine.submit(request("a", [1] * 100, max_tokens=1))
    drain(engine)

    assert executor.forwards == 4


@st.composite
def resumed_requests(draw: st.DrawFn) -> tuple[Generate, list[int]]:
    """A request, perhaps cut off somewhere in its answer, and the tokens it must still get."""
    beginning = [draw(st.integers(0, 2))] * draw(st.sampled_from([1, 16, 20, 33]))
    whole = request(
        "",
        beginning + draw(st.lists(st.integers(0, 3), max_size=6)),
        max_tokens=draw(st.integers(1, 30)),
        temperature=draw(st.sampled_from([0.0, 1.0])),
    )
    expected = answer(whole)
    done = draw(st.integers(0, len(expected) - 1))
    return msgspec.structs.replace(whole, generated=expected[:done]), expected[done:]


@settings(max_examples=60, deadline=None)
@given(
    wanted=st.lists(resumed_requests(), min_size=1, max_size=8),
    pages=st.integers(5, 14),
    steps_between=st.integers(0, 3),
)
def test_answers_do_not_depend_on_company_memory_or_interruption(
    wanted: list[tuple[Generate, list[int]]], pages: int, steps_between: int
) -> None:
    engine = small_engine(pages)
    received: dict[str, list[Token]] = {}
    for number, (each, _) in enumerate(wanted):
        assert engine.submit(msgspec.structs.replace(each, request_id=str(number))) is None
        for _ in range(steps_between):
            collect(engine.step(), received)
            engine.check_integrity()
    drain(engine, received)

    assert [ids(received[str(number)]) for number in range(len(wanted))] == [
        expected for _, expected in wanted
    ]

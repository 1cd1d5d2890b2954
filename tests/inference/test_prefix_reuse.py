"""Prefix reuse over a real model: how many rows are computed, and that no bit of an answer changes.

What an answer must be comes from an engine that has computed nothing before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from numpy.typing import NDArray

from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Executor
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.messages import Generate, Sampling, Score, Sibling, Token
from tokenworks.inference.models.architectures.gemma3 import GEMMA3
from tokenworks.inference.models.kv_format import KvFormat
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.random_model import TINY_CONFIG, tiny_config, write_random_model
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.clock import ManualClock

PAGES = 64
ANSWER = 9
KINDS = [("full", "bf16"), ("full", "int8"), ("windowed", "bf16"), ("windowed", "int8")]
OpenEngine = Callable[..., "Counted"]


class CountingExecutor:
    """Passes everything on, and counts the rows of forwards. There are `pages` pages of it."""

    def __init__(self, executor: Executor, pages: int) -> None:
        self._executor = executor
        self.page_bytes = 2**20 // pages
        self.rows = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        self.rows += len(batch.tokens)
        return self._executor.forward(batch)


@dataclass
class Counted:
    """An engine that is watched."""

    executor: CountingExecutor
    engine: Engine
    tokens: dict[str, list[Token]] = field(default_factory=dict)
    scores: dict[str, list[Score]] = field(default_factory=dict)

    def submit(self, *requests: Generate) -> None:
        for request in requests:
            assert self.engine.submit(request) is None

    def step(self) -> bool:
        step = self.engine.step()
        self.engine.check_integrity()
        if step is None:
            return False
        assert not step.failed
        for token in step.tokens:
            self.tokens.setdefault(token.request_id, []).append(token)
        for scores in step.scores:
            self.scores.setdefault(scores.request_id, []).extend(scores.scores)
        return True

    def drain(self) -> None:
        while self.step():
            pass

    def rows_of(self, *requests: Generate) -> int:
        """The rows that these requests take, at once."""
        before = self.executor.rows
        self.submit(*requests)
        self.drain()
        return self.executor.rows - before

    def answer(self, request_id: str) -> list[int]:
        return [token.token for token in self.tokens[request_id]]

    def cached(self, request_id: str) -> int | None:
        return self.tokens[request_id][0].cached_tokens


@pytest.fixture(params=KINDS, ids=" ".join)
def open_engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenEngine]:
    attention, format = request.param
    config = TINY_CONFIG if attention == "full" else tiny_config(GEMMA3)
    path = tmp_path_factory.mktemp("reuse") / "m.gguf"
    write_random_model(path, config)
    model = load_model(path)
    kv_format: KvFormat = format

    def opened(pages: int = PAGES, **changes: Any) -> Counted:
        native = NativeExecutor(model, isa="auto", threads=1, context_length=0, kv_format=kv_format)
        executor = CountingExecutor(native, pages)
        given = {"max_sequences": 16, "max_batch_tokens": 64, "kv_memory_mb": 1, **changes}
        settings = EngineSettings(model_path="", model_id="m", **given)
        return Counted(executor, Engine(executor, settings, ManualClock()))

    yield opened
    model.close()


def random_tokens(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 90, count).tolist()


def ask(name: str, prompt: list[int], max_tokens: int = ANSWER, **given: Any) -> Generate:
    sampling = Sampling(max_tokens=max_tokens, temperature=0.8, seed=len(prompt))
    return Generate(request_id=name, prompt=prompt, sampling=sampling, **given)


def assert_same_alone(open_engine: OpenEngine, counted: Counted, *requests: Generate) -> None:
    """Each of the answers is what an engine gives that knows nothing else."""
    for request in requests:
        alone = open_engine()
        alone.submit(request)
        alone.drain()
        assert alone.cached(request.request_id) == 0
        assert counted.answer(request.request_id) == alone.answer(request.request_id)


def test_a_conversation_never_computes_a_token_twice(open_engine: OpenEngine) -> None:
    counted, history = open_engine(), random_tokens(45, 0)
    requests: list[Generate] = []
    said: list[int] = []
    for turn in range(5):
        request = ask(str(turn), list(history))
        rows = counted.rows_of(request)
        known = counted.cached(str(turn))
        assert known is not None
        requests.append(request)
        assert rows == len(history) - known + ANSWER - 1
        if turn:  # the last token of the answer before was sampled, not computed
            assert known == len(history) - len(said) - 1
        said = random_tokens(7 + turn, turn)
        history += counted.answer(str(turn)) + said

    assert_same_alone(open_engine, counted, *requests)


def test_simultaneous_requests_compute_their_beginning_once(open_engine: OpenEngine) -> None:
    counted, beginning = open_engine(), random_tokens(150, 0)
    requests = [ask(str(n), beginning + random_tokens(4 + n, n + 1)) for n in range(8)]
    own = sum(len(request.prompt) - 150 + ANSWER - 1 for request in requests)

    assert counted.rows_of(*requests) == 150 + own
    assert [counted.cached(str(n)) for n in range(8)] == [0] + [150] * 7
    assert_same_alone(open_engine, counted, *requests)


def test_requests_that_come_during_the_prefill_share_it(open_engine: OpenEngine) -> None:
    counted, beginning = open_engine(), random_tokens(200, 0)
    requests = [ask(str(n), beginning + random_tokens(5, n + 1)) for n in range(6)]
    for request in requests:
        counted.submit(request)
        counted.step()
    counted.drain()

    computed = 200 + sum(5 + ANSWER - 1 for _ in requests)
    assert counted.executor.rows < computed + PAGE_TOKENS * len(requests)
    assert_same_alone(open_engine, counted, *requests)


def test_a_stranger_does_not_wait_for_those_who_share(open_engine: OpenEngine) -> None:
    counted, beginning = open_engine(), random_tokens(60, 0)
    sharing = [ask(str(n), beginning + random_tokens(9, n + 1)) for n in range(3)]
    stranger = ask("stranger", random_tokens(3, 9))
    counted.submit(*sharing, stranger)
    counted.step()
    counted.step()

    assert {"0", "stranger"} <= set(counted.tokens)
    counted.drain()
    assert_same_alone(open_engine, counted, *sharing, stranger)


def test_who_waits_for_a_cancelled_request_goes_on_from_what_it_left(
    open_engine: OpenEngine,
) -> None:
    counted, beginning = open_engine(), random_tokens(150, 0)
    requests = [ask(str(n), beginning + random_tokens(5, n + 1)) for n in range(3)]
    counted.submit(*requests)
    counted.step()
    counted.engine.cancel("0")
    counted.drain()

    assert "0" not in counted.tokens
    assert counted.cached("1") == 64  # the batch that was computed
    assert counted.executor.rows == 150 + 2 * (5 + ANSWER - 1)
    assert_same_alone(open_engine, counted, *requests[1:])


def test_a_sequence_that_gave_way_goes_on_where_it_was(open_engine: OpenEngine) -> None:
    counted = open_engine(pages=7)
    requests = [ask(str(n), random_tokens(30, n), max_tokens=40) for n in range(3)]
    counted.submit(*requests)
    counted.drain()

    assert_same_alone(open_engine, counted, *requests)


def test_siblings_share_all_of_their_prompt(open_engine: OpenEngine) -> None:
    counted, prompt = open_engine(), random_tokens(75, 0)
    siblings = [Sibling(request_id=str(n), seed=n) for n in range(1, 4)]
    request = structs.replace(ask("0", prompt), siblings=siblings)

    assert counted.rows_of(request) == 75 + 3 + 4 * (ANSWER - 1)
    for sibling in siblings:
        alone = structs.replace(request, request_id=sibling.request_id, siblings=[])
        sampling = structs.replace(request.sampling, seed=sibling.seed)
        assert_same_alone(open_engine, counted, structs.replace(alone, sampling=sampling))


def test_a_scored_prompt_is_computed_whole_although_it_is_known(open_engine: OpenEngine) -> None:
    counted, prompt = open_engine(), random_tokens(75, 0)
    first = ask("first", prompt, score_prompt=True)
    again = ask("again", prompt, score_prompt=True)

    assert counted.rows_of(first) == counted.rows_of(again) == 75 + ANSWER - 1
    assert counted.scores["first"] == counted.scores["again"]
    assert len(counted.scores["again"]) == 74
    assert counted.answer("first") == counted.answer("again")
    assert counted.rows_of(ask("unscored", prompt)) == 1 + ANSWER - 1


def test_tenants_do_not_notice_each_other(open_engine: OpenEngine) -> None:
    counted, prompt = open_engine(), random_tokens(75, 0)
    requests = [ask(tenant, prompt, tenant=tenant) for tenant in "abc"]

    assert counted.rows_of(*requests) == 3 * (75 + ANSWER - 1)
    assert [counted.cached(tenant) for tenant in "abc"] == [0, 0, 0]
    assert counted.rows_of(ask("again", prompt, tenant="b")) == 1 + ANSWER - 1
    assert_same_alone(open_engine, counted, *requests)


def test_what_is_public_is_computed_once_for_all_tenants(open_engine: OpenEngine) -> None:
    counted, beginning = open_engine(), random_tokens(70, 0)
    requests = [
        ask(tenant, beginning + random_tokens(5, seed), tenant=tenant, public_tokens=70)
        for seed, tenant in enumerate("abc", start=1)
    ]

    counted.rows_of(*requests)

    assert [counted.cached(tenant) for tenant in "abc"] == [0, 64, 64]  # whole pages
    assert_same_alone(open_engine, counted, *requests)


@pytest.mark.parametrize("open_engine", [("full", "bf16")], indirect=True)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    asked=st.lists(
        st.tuples(
            st.sampled_from([0, 5, 17, 40, 66]),  # tokens that all begin with
            st.integers(1, 30),
            st.sampled_from("ab"),
            st.sampled_from([0, 0, 33]),
            st.integers(0, 3),  # steps until the next comes
            st.booleans(),  # whether it is cancelled then
        ),
        min_size=2,
        max_size=9,
    ),
    pages=st.integers(9, 20),
)
def test_answers_do_not_depend_on_company_memory_or_who_leaves(
    open_engine: OpenEngine, asked: list[tuple[int, int, str, int, int, bool]], pages: int
) -> None:
    counted, beginning = open_engine(pages=pages), random_tokens(70, 0)
    stays = []
    for number, (common, own, tenant, public, steps, leaves) in enumerate(asked):
        prompt = beginning[:common] + random_tokens(own, number % 3)
        request = ask(str(number), prompt, tenant=tenant, public_tokens=public)
        counted.submit(request)
        for _ in range(steps):
            counted.step()
        if leaves:
            counted.engine.cancel(str(number))
        else:
            stays.append(request)
    counted.drain()

    assert_same_alone(open_engine, counted, *stays)

"""The engine's several answers of one prompt, and the scores of a prompt's own tokens."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from numpy.typing import NDArray

from tokenworks.inference.batcher import MOST_SCORED_ROWS
from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.base import Batch
from tokenworks.inference.executors.scripted import ScriptedExecutor, scripted_logits
from tokenworks.inference.messages import Generate, Sampling, Score, Sibling
from tokenworks.inference.sampler import sample
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.steering import steering_of
from tokenworks.telemetry.clock import ManualClock


class CountingExecutor(ScriptedExecutor):
    """Counts the rows that it computes; broken, all after token 13 are no numbers."""

    rows = most_logits = 0
    broken = False

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        self.rows += len(batch.tokens)
        self.most_logits = max(self.most_logits, len(batch.logit_rows))
        logits = super().forward(batch)
        if self.broken:
            logits[batch.tokens[batch.logit_rows] == 13] = np.nan
        return logits


def make_engine(executor: ScriptedExecutor, **changes: Any) -> Engine:
    values = {"model_path": "", "model_id": "m", "max_sequences": 8, "max_batch_tokens": 32}
    return Engine(executor, EngineSettings(**{**values, **changes}), ManualClock())


def small_engine(pages: int) -> Engine:
    executor = ScriptedExecutor()
    executor.page_bytes = 2**20 // pages
    return make_engine(executor, kv_memory_mb=1)


def generate(prompt: list[int], seeds: list[int], *, score: bool = False, **given: Any) -> Generate:
    return Generate(
        request_id="0",
        prompt=prompt,
        sampling=Sampling(**{"max_tokens": 10, "seed": seeds[0], **given}),
        siblings=[Sibling(request_id=str(n), seed=s) for n, s in enumerate(seeds) if n],
        score_prompt=score,
    )


def answer(prompt: list[int], sampling: Sampling, seed: int) -> list[int]:
    """The tokens that a choice must get, computed without any engine."""
    wanted = structs.replace(sampling, seed=seed)
    tokens = list(prompt)
    for index in range(wanted.max_tokens):
        logits = scripted_logits(np.array(tokens, np.int32), 97)
        steering = steering_of(wanted, prompt, tokens[len(prompt) :])
        tokens.append(sample(logits, wanted, index, steering).token)
    return tokens[len(prompt) :]


def scores_of(prompt: list[int]) -> list[float]:
    """log softmax at each next token, in double precision."""
    scores = []
    for end in range(1, len(prompt)):
        logits = scripted_logits(np.array(prompt[:end], np.int32), 97).astype(np.float64)
        scores.append(float(logits[prompt[end]] - math.log(np.exp(logits).sum())))
    return scores


def drain(engine: Engine) -> tuple[dict[str, list[int]], dict[str, list[Score]]]:
    """Each answer's tokens and each request's scores, in order and none twice."""
    tokens: dict[str, list[int]] = {}
    scores: dict[str, list[Score]] = {}
    while step := engine.step():
        engine.check_integrity()
        assert not step.failed
        for each in step.scores:
            so_far = scores.setdefault(each.request_id, [])
            assert each.start == len(so_far) + 1
            assert each.request_id not in tokens, "a token came before the scores"
            so_far += each.scores
        for token in step.tokens:
            tokens.setdefault(token.request_id, []).append(token.token)
    return tokens, scores


def test_siblings_get_the_answers_that_their_seeds_alone_would_get() -> None:
    engine, prompt, seeds = make_engine(CountingExecutor()), list(range(45)), [5, 6, 7, 8]
    wanted = generate(prompt, seeds, presence_penalty=1.0, frequency_penalty=0.5)

    assert engine.submit(wanted) is None
    tokens, _ = drain(engine)

    assert tokens == {str(n): answer(prompt, wanted.sampling, s) for n, s in enumerate(seeds)}


def test_the_prompt_of_siblings_is_computed_once() -> None:
    executor = CountingExecutor()
    engine = make_engine(executor, max_batch_tokens=256)  # all of them would fit into one batch
    engine.submit(generate(list(range(40)), [1, 2, 3, 4], max_tokens=1))
    drain(engine)

    assert executor.rows == 40 + 3  # each computes the last token for itself


def test_siblings_that_do_not_all_fit_are_refused_together() -> None:
    engine = make_engine(ScriptedExecutor(), max_sequences=2, queue_limit=2)
    assert engine.submit(generate([1], [1])) is None
    many = generate([1], [1, 2, 3, 4])

    refused = engine.submit(structs.replace(many, request_id="other"))
    never = engine.submit(generate([1], [1, 2, 3, 4, 5]))

    assert refused is not None
    assert (refused.request_id, refused.reason) == ("other", "queue_full")
    assert never is not None
    assert never.reason == "invalid"
    begun = structs.replace(many, request_id="other", begun=True)
    assert engine.submit(begun) is None
    engine.check_integrity()


def test_siblings_share_no_id() -> None:
    engine = make_engine(ScriptedExecutor())
    twice = structs.replace(generate([1], [1, 2]), request_id="1")

    refused = engine.submit(twice)

    assert refused is not None
    assert "'1' is in use" in refused.message
    assert not engine.busy


def test_a_cancelled_leader_does_not_hold_its_siblings_up() -> None:
    engine, prompt = make_engine(ScriptedExecutor()), list(range(70))
    wanted = generate(prompt, [1, 2])
    engine.submit(wanted)
    engine.step()
    engine.cancel("0")

    assert drain(engine)[0] == {"1": answer(prompt, wanted.sampling, 2)}


def test_siblings_of_a_cancelled_request_do_not_wait_for_its_scores() -> None:
    engine, prompt = make_engine(ScriptedExecutor()), list(range(70))
    wanted = generate(prompt, [1, 2], score=True)
    engine.submit(wanted)
    engine.step()
    engine.cancel("0")

    assert drain(engine)[0] == {"1": answer(prompt, wanted.sampling, 2)}


def test_a_prompt_is_scored_although_its_pages_are_known_already() -> None:
    engine, prompt = make_engine(ScriptedExecutor()), [n % 90 for n in range(100)]
    engine.submit(generate(prompt, [1]))
    drain(engine)
    engine.submit(generate(prompt, [1], score=True, logprobs=2))

    _, scores = drain(engine)

    assert [score.logprob for score in scores["0"]] == pytest.approx(scores_of(prompt), abs=1e-5)
    for end, score in enumerate(scores["0"], start=1):
        logits = scripted_logits(np.array(prompt[:end], np.int32), 97)
        likeliest = np.argsort(-logits, kind="stable")[:2].tolist()
        assert [other.token for other in score.alternatives] == likeliest


def test_a_long_prompts_logits_are_never_all_in_memory() -> None:
    executor = CountingExecutor()
    engine = make_engine(executor, max_batch_tokens=256)
    for name in "ab":
        each = generate([n % 90 for n in range(300)], [1], score=True, max_tokens=1)
        engine.submit(structs.replace(each, request_id=name))
    _, scores = drain(engine)

    assert [len(each) for each in scores.values()] == [299, 299]
    assert executor.most_logits <= MOST_SCORED_ROWS + 2


def test_no_sibling_speaks_before_the_prompt_is_scored() -> None:
    engine = make_engine(ScriptedExecutor(), max_batch_tokens=256)
    long = generate([n % 90 for n in range(300)], [1], score=True)
    engine.submit(structs.replace(long, request_id="long"))  # takes all rows that may be scored
    engine.submit(generate([1, 2, 3], [1, 2], score=True))
    events = []
    while step := engine.step():
        events += [scores.request_id for scores in step.scores]
        events += [f"token of {token.request_id}" for token in step.tokens]

    assert events.index("0") < events.index("token of 1")


def test_a_prompt_of_one_token_has_no_scores() -> None:
    engine = make_engine(ScriptedExecutor())
    engine.submit(generate([5], [1], score=True))

    tokens, scores = drain(engine)

    assert len(tokens["0"]) == 10
    assert scores == {}


def test_bad_numbers_in_a_scored_prompt_end_that_request_alone() -> None:
    executor = CountingExecutor()
    executor.broken = True
    engine = make_engine(executor)
    engine.submit(generate([1, 13, 2], [1], score=True))
    engine.submit(Generate(request_id="good", prompt=[1, 2], sampling=Sampling(max_tokens=1)))

    step = engine.step()

    assert step is not None
    assert [failed.request_id for failed in step.failed] == ["0"]
    assert [token.request_id for token in step.tokens] == ["good"]


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(
        st.tuples(st.integers(1, 60), st.integers(1, 4), st.booleans(), st.booleans()),
        min_size=1,
        max_size=4,
    ),
    pages=st.integers(6, 14),
)
def test_company_and_memory_change_neither_answers_nor_scores(
    groups: list[tuple[int, int, bool, bool]], pages: int
) -> None:
    engine, expected, scored = small_engine(pages), {}, {}
    for number, (length, n, scoring, steered) in enumerate(groups):
        prompt = [1] * 16 + [7 + number % 2] * length
        given = {"presence_penalty": 1.0, "repetition_penalty": 1.2} if steered else {}
        plain = generate(prompt, list(range(n)), score=scoring, **given)
        siblings = [Sibling(request_id=f"{number}.{seed}", seed=seed) for seed in range(1, n)]
        each = structs.replace(plain, request_id=f"{number}.0", siblings=siblings)
        assert engine.submit(each) is None
        for seed in range(n):
            expected[f"{number}.{seed}"] = answer(prompt, plain.sampling, seed)
        if scoring:
            scored[f"{number}.0"] = scores_of(prompt)

    tokens, scores = drain(engine)

    assert tokens == expected
    assert {name: [s.logprob for s in each] for name, each in scores.items()} == {
        name: pytest.approx(each, abs=1e-5) for name, each in scored.items()
    }

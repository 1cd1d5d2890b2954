"""A draft model changes how fast answers come and nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speculating import SAMPLING, VOCABULARY, asked, few_words, run
from tokenworks.inference.executors.choose import open_executor
from tokenworks.inference.executors.scripted import ScriptedExecutor
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.settings import EngineSettings

PROMPTS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=90)


def memory_of_all() -> ScriptedExecutor:
    """What follows depends on every token before: a draft that read a wrong one goes astray."""
    return ScriptedExecutor(vocabulary_size=VOCABULARY)


@settings(max_examples=60, deadline=None)
@given(
    asks=st.lists(st.tuples(PROMPTS, SAMPLING), min_size=1, max_size=6),
    agrees=st.booleans(),
    kv_memory_mb=st.sampled_from([1, 64]),
)
def test_answers_are_the_same_token_by_token(
    asks: list[tuple[list[int], dict[str, Any]]], agrees: bool, kv_memory_mb: int
) -> None:
    requests = [
        asked(str(number), prompt, **sampling) for number, (prompt, sampling) in enumerate(asks)
    ]
    executor, draft = memory_of_all(), memory_of_all() if agrees else few_words()
    executor.page_bytes = 2**20 // 20  # with one MiB twenty pages for all
    found, _ = run(executor, requests, "auto", draft, kv_memory_mb=kv_memory_mb)
    without, _ = run(memory_of_all(), requests, "off")
    assert found == without


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_model_that_is_always_right_is_never_read_wrongly(temperature: float) -> None:
    requests = [
        asked(str(number), [number] * 40, temperature=temperature, seed=number, max_tokens=150)
        for number in range(3)
    ]
    answers, timed = run(memory_of_all(), requests, "auto", memory_of_all())
    assert all(len(tokens) == 150 for tokens in answers.values())
    # Nothing repeats itself here, so whatever was right came from the draft model.
    assert timed.forwards < 150 / 5


def test_a_draft_model_that_is_wrong_is_hardly_asked() -> None:
    requests = [asked("a", [1, 2, 3], temperature=1.0, max_tokens=400)]
    _, alone = run(memory_of_all(), requests, "off")
    _, timed = run(memory_of_all(), requests, "auto", few_words())
    assert timed.seconds < 1.03 * alone.seconds


def test_a_draft_model_as_slow_as_the_model_is_hardly_asked() -> None:
    requests = [asked("a", [1, 2, 3], temperature=1.0, max_tokens=400)]
    _, alone = run(memory_of_all(), requests, "off")
    _, timed = run(memory_of_all(), requests, "auto", memory_of_all(), draft_s=0.05)
    assert timed.seconds < 1.03 * alone.seconds


def test_further_tokens_of_either_vocabulary_do_no_harm() -> None:
    requests = [asked("a", [1, 2, VOCABULARY - 1], temperature=1.0, max_tokens=100)]
    plain, _ = run(memory_of_all(), requests, "off")
    for more in (-1, 5):
        draft = ScriptedExecutor(vocabulary_size=VOCABULARY + more)
        assert run(memory_of_all(), requests, "auto", draft)[0] == plain


def test_a_draft_model_of_short_contexts_guesses_as_far_as_it_can_read() -> None:
    requests = [asked("a", [1, 2, 3], temperature=1.0, max_tokens=200)]
    short = ScriptedExecutor(vocabulary_size=VOCABULARY, context_length=100)
    answers, timed = run(memory_of_all(), requests, "auto", short)
    assert answers == run(memory_of_all(), requests, "off")[0]
    assert 100 <= timed.forwards < 140


def test_a_long_prompt_is_read_in_parts() -> None:
    requests = [asked("a", list(range(20)) * 15, temperature=1.0, max_tokens=100)]
    answers, timed = run(memory_of_all(), requests, "auto", memory_of_all(), max_batch_tokens=32)
    assert answers == run(memory_of_all(), requests, "off")[0]
    assert timed.forwards < 60


@pytest.mark.parametrize("executor", ["auto", "reference"])
def test_a_real_model_guesses_what_it_would_say_itself(tmp_path: Path, executor: str) -> None:
    config = replace(TINY_CONFIG, context_length=256)
    write_random_model(tmp_path / "m.gguf", config, type=TensorType.Q8_0)
    model = load_model(tmp_path / "m.gguf")
    requests = [
        asked(str(number), [3 + number, 7, 9] * 9, temperature=temperature, seed=number)
        for number, temperature in enumerate((0.0, 0.9, 1.3))
    ]

    def opened() -> Any:
        values = {"model_path": "m", "model_id": "m", "threads": 2, "executor": executor}
        return open_executor(model, EngineSettings(**values))

    guessed, timed = run(opened(), requests, "auto", opened())
    plain, _ = run(opened(), requests, "off")
    model.close()
    assert guessed == plain
    assert timed.forwards < 60 / 4

"""Answers with speculation are those without, token by token, drawn or greedy, on every model.

Draws depend on seed and place alone, so equality of whole answers is what is asserted: stronger
than any test of distributions, for it allows no difference at all.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speculating import SAMPLING, VOCABULARY, asked, few_words, run
from tokenworks.inference.executors.choose import open_executor
from tokenworks.inference.memory import reference_need
from tokenworks.inference.models.architectures.registry import ARCHITECTURES
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.random_model import TINY_CONFIG, tiny_config, write_random_model
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.pages import PagePool, PageTable
from tokenworks.inference.settings import EngineSettings

DECODERS = [
    family for family in ARCHITECTURES if family.gguf and not tiny_config(family).is_encoder
]


PROMPTS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PROMPTS, SAMPLING), min_size=1, max_size=6))
def test_answers_are_the_same_token_by_token(asks: list[tuple[list[int], dict[str, Any]]]) -> None:
    requests = [
        asked(str(number), prompt, **sampling) for number, (prompt, sampling) in enumerate(asks)
    ]
    with_drafts, _ = run(few_words(), requests, "auto")
    without, _ = run(few_words(), requests, "off")
    assert with_drafts == without


def test_drafts_save_forwards() -> None:
    requests = [asked("a", [1, 2, 3], temperature=0.0, max_tokens=200)]
    answers, with_drafts = run(few_words(), requests, "auto")
    same, without = run(few_words(), requests, "off")
    assert answers == same
    assert without.forwards == 200
    assert with_drafts.forwards < 80
    assert with_drafts.rows > with_drafts.forwards


def test_pages_that_run_out_shorten_drafts_and_lose_nothing() -> None:
    requests = [asked(str(number), [number] * 5, temperature=0.5) for number in range(4)]
    executor = few_words()
    executor.page_bytes = 2**20 // 10  # ten pages for four answers of five
    answers, _ = run(executor, requests, "auto", kv_memory_mb=1)
    same, _ = run(few_words(), requests, "off")
    assert answers == same


def test_drafts_leave_the_pages_that_are_to_be_spared() -> None:
    pool = PagePool(4)
    table = PageTable(pool, capacity=4)
    assert table.open(list(range(16))) == 0

    assert table.room(16, 40, spare=2) == 16
    assert pool.free == 2
    assert table.room(16, 40) == 40


@pytest.mark.parametrize("speculation", ["auto", "off"])
def test_the_memory_that_is_said_holds_the_logits_of_all_drafts(speculation: str) -> None:
    requests = [asked(str(n), [n] * 5, temperature=0.0, max_tokens=200) for n in range(4)]
    changes = {"max_sequences": 4, "max_batch_tokens": 256}
    _, engine = run(few_words(), requests, speculation, **changes)
    assert (engine.most_logits > 68) == (speculation == "auto")

    def said(vocabulary: int) -> int:
        config = replace(TINY_CONFIG, vocabulary=vocabulary)
        wanted = EngineSettings(model_path="", model_id="m", speculation=speculation, **changes)
        return reference_need({}, config, wanted).buffers

    assert said(10**6) - said(0) >= engine.most_logits * 4 * 10**6


def test_an_answer_never_grows_beyond_what_it_may_take() -> None:
    requests = [asked("a", [1, 2, 3], temperature=0.0, max_tokens=509)]  # the whole context
    answers, _ = run(few_words(), requests, "auto")
    assert len(answers["a"]) == 509
    assert answers["a"][-1].finish_reason == "length"


@pytest.mark.parametrize("kv_format", ["bf16", "int8"])
@pytest.mark.parametrize("family", DECODERS, ids=lambda family: family.name)
def test_every_architecture_gives_the_same_bits(
    tmp_path: Path, family: Any, kv_format: str
) -> None:
    config = replace(tiny_config(family), context_length=128)
    write_random_model(tmp_path / "m.gguf", config, type=TensorType.Q8_0)
    model = load_model(tmp_path / "m.gguf")
    prompt = [int(token) for token in np.random.default_rng(1).integers(0, 50, 8)]
    requests = [
        asked(str(number), prompt * 2 + [number], temperature=temperature, seed=number, logprobs=2)
        for number, temperature in enumerate((0.0, 0.0, 0.3, 0.8))
    ]
    found = {}
    for speculation in ("auto", "off"):
        values = {"model_path": "m", "model_id": "m", "threads": 2, "kv_format": kv_format}
        executor = open_executor(model, EngineSettings(**values))
        found[speculation] = run(executor, requests, speculation)
    model.close()
    assert found["auto"][0] == found["off"][0]
    assert found["auto"][1].rows > found["off"][1].rows  # some draft was verified

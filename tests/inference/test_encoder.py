"""Vectors of texts: batched, pooled, of length one."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.errors import ContextLengthError
from tokenworks.inference.encoder import Encoder, batches
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.architectures.bert import BERT
from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.models.random_model import tiny_config, write_random_model
from tokenworks.inference.models.tensors import TensorType


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("encoder") / "tiny.gguf"
    write_random_model(path, replace(tiny_config(BERT), context_length=64), type=TensorType.Q8_0)
    return load_model(path)


def native(model: Model) -> NativeExecutor:
    return NativeExecutor(model, isa="auto", threads=2, context_length=0)


TEXTS = [[1, 2, 3], list(range(40)), [7], list(range(64)), [5] * 17]


def test_vectors_have_length_one_and_do_not_depend_on_company(model: Model) -> None:
    encoder = Encoder(native(model), model.config)

    together = encoder.vectors(TEXTS)

    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_array_equal(encoder.vectors([text])[0], vector)


def test_a_small_budget_gives_the_same_vectors(model: Model) -> None:
    wide = Encoder(native(model), model.config).vectors(TEXTS)
    narrow = Encoder(native(model), model.config, most_tokens=1).vectors(TEXTS)

    np.testing.assert_array_equal(narrow, wide)


def test_the_kernels_agree_with_the_reference(model: Model) -> None:
    ours = Encoder(native(model), model.config).vectors(TEXTS)
    theirs = Encoder(ReferenceExecutor(model), model.config).vectors(TEXTS)

    assert (ours * theirs).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_is_what_the_model_says(model: Model, pooling: str) -> None:
    config = replace(model.config, pooling=pooling)  # type: ignore[arg-type]
    executor = ReferenceExecutor(model)
    vector = Encoder(executor, config).vectors([TEXTS[1]])[0]

    from tokenworks.inference.encoder import _batch

    states = executor.encode(_batch([TEXTS[1]]))
    expected = {"mean": states.mean(axis=0), "cls": states[0], "last": states[-1]}[pooling]
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize("text", [[], [1] * 65], ids=["empty", "too long"])
def test_a_text_that_does_not_fit_is_refused_with_numbers(model: Model, text: list[int]) -> None:
    encoder = Encoder(native(model), model.config)

    with pytest.raises(ContextLengthError, match=f"Text 1 has {len(text)} tokens; .* 1 to 64"):
        encoder.vectors([[1], text])


@given(st.lists(st.integers(1, 50)), st.integers(50, 200))
def test_batches_keep_order_and_budget(lengths: list[int], most: int) -> None:
    made = list(batches(lengths, most))

    assert [number for batch in made for number in batch] == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in batch) <= most for batch in made)
    for batch, following in itertools.pairwise(made):
        assert sum(lengths[number] for number in batch) + lengths[following[0]] > most

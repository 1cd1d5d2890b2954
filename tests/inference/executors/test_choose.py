"""Which executor is opened, on how many threads, and what is said when it cannot be."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from tokenworks.errors import ConfigError
from tokenworks.inference.executors.choose import open_executor
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.architectures.bert import BERT
from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.models.random_model import tiny_config, write_random_model
from tokenworks.inference.settings import EngineSettings

NATIVE = "tokenworks.inference.executors.native"


@pytest.fixture
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model)


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules makes Python raise the very ImportError that a missing module gives.
    monkeypatch.setitem(sys.modules, NATIVE, None)


def settings(**changes: Any) -> EngineSettings:
    return EngineSettings(**{"model_path": "", "model_id": "m", **changes})


def test_the_reference_is_opened_when_asked_for(model: Model) -> None:
    executor = open_executor(model, settings(executor="reference"))

    assert isinstance(executor, ReferenceExecutor)
    assert executor.context_length == model.config.context_length


@pytest.mark.usefixtures("no_kernels")
def test_auto_falls_back_to_the_reference_and_says_so(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        executor = open_executor(model, settings())

    assert isinstance(executor, ReferenceExecutor)
    assert "falling back to the slow reference" in caplog.text


@pytest.mark.usefixtures("no_kernels")
def test_native_that_cannot_be_loaded_is_an_error(model: Model) -> None:
    with pytest.raises(ConfigError, match="native executor cannot be used"):
        open_executor(model, settings(executor="native"))


@pytest.mark.parametrize("executor", ["native", "reference"])
def test_the_format_of_keys_and_values_is_taken_and_named(model: Model, executor: str) -> None:
    plain = open_executor(model, settings(executor=executor))
    coded = open_executor(model, settings(executor=executor, kv_format="int8"))

    assert "int8 KV" in coded.description
    assert "KV" not in plain.description
    assert (coded.page_bytes < plain.page_bytes) == (executor == "native")


def test_an_encoder_keeps_nothing_that_int8_would_make_smaller(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_random_model(path, tiny_config(BERT))
    encoder = load_model(path)

    assert "KV" not in open_executor(encoder, settings(kv_format="int8")).description


def test_a_shorter_context_is_kept(model: Model) -> None:
    executor = open_executor(model, settings(executor="reference", context_length=64))

    assert executor.context_length == 64


def test_a_context_beyond_the_models_is_an_error(model: Model) -> None:
    with pytest.raises(ConfigError, match="context_length 2000 is more than the 1024"):
        open_executor(model, settings(executor="reference", context_length=2000))

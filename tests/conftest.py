"""What every area's tests may use: a model small enough to be written and run in a moment."""

from dataclasses import replace
from pathlib import Path

import pytest

from tokenworks.inference.models.random_llama import TINY_CONFIG, write_random_llama
from tokenworks.inference.text.tiny_vocabulary import tiny_vocabulary


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama file of random weights: two layers, 1,024 tokens of context, a chat template."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    vocabulary = tiny_vocabulary()
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    # An output of its own: with tied random weights a model repeats its last token for ever.
    config = replace(TINY_CONFIG, vocabulary=len(tokens), context_length=1024, tied_embedding=False)
    write_random_llama(path, config, metadata=vocabulary)
    return path

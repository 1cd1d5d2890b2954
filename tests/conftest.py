"""What every area's tests may use: a model small enough to be written and run in a moment."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

from databases import PostgresServer, postgres_server
from tokenworks.inference.models.gguf_writer import Writable
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.text.tiny_vocabulary import tiny_vocabulary
from tokenworks.inference.text.vocabulary import ANSWER_ENDS
from tokenworks.store.database import Database

# CI judges a change by the same examples each time; people's own runs look for new ones.
settings.register_profile("ci", derandomize=True)
if "CI" in os.environ:
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama file of random weights: two layers, 1,024 tokens of context, a chat template."""
    return written(tmp_path_factory.mktemp("tiny") / "tiny.gguf", tiny_vocabulary())


@pytest.fixture(scope="session")
def endless_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without a token that ends an answer: what is sampled from it is never empty.

    Of `tiny_model` one sampled answer in 70 is.
    """
    vocabulary = tiny_vocabulary()
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    vocabulary["tokenizer.ggml.tokens"] = [
        f"<|no end {index}|>" if token in ANSWER_ENDS else token
        for index, token in enumerate(tokens)
    ]
    del vocabulary["tokenizer.ggml.eos_token_id"]
    return written(tmp_path_factory.mktemp("endless") / "endless.gguf", vocabulary)


def written(path: Path, vocabulary: dict[str, Writable]) -> Path:
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    # An output of its own: with tied random weights a model repeats its last token for ever.
    config = replace(TINY_CONFIG, vocabulary=len(tokens), context_length=1024, tied_embedding=False)
    write_random_model(path, config, metadata=vocabulary)
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite, and PostgreSQL where there is a server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'books.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url) as database:
        yield database

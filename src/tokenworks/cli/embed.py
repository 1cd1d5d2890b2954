"""`tokenworks embed`: vectors of texts, computed in this process."""

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from tokenworks.cli.models import ensure
from tokenworks.config import Config
from tokenworks.errors import ContextLengthError, RequestError
from tokenworks.inference.encoder import Encoder
from tokenworks.inference.executors.choose import open_executor
from tokenworks.inference.models.model import load_model
from tokenworks.inference.text.open import open_codec

_AT_ONCE = 64
"""Texts that are read before any is computed: they fill batches, and progress shows."""


class Embedding(msgspec.Struct, frozen=True):
    """A line of the output. `index` counts texts from 0, `tokens` those of this text."""

    index: int
    tokens: int
    embedding: list[float]


def run(config: Config, texts: list[str] | None) -> None:
    """Print a line of JSON for each text. Raises TokenworksError."""
    _, path = ensure(config, config.model)
    lines = (line.rstrip("\r\n") for line in sys.stdin)
    encode = json_lines(config, path, texts if texts else lines)
    for line in encode:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.flush()


def json_lines(config: Config, path: Path, texts: Iterable[str]) -> Iterator[bytes]:
    """Each text's line. Raises RequestError for a text that the model cannot take, naming it."""
    model = load_model(path)
    codec = open_codec(path)
    encoder = Encoder(open_executor(model, config.engine), model.config)
    longest = model.config.context_length
    waiting = iter(texts)
    first = 0
    while some := list(itertools.islice(waiting, _AT_ONCE)):
        tokens = []
        for number, text in enumerate(some, first):
            try:
                tokens.append(codec.document(text))
            except RequestError as problem:
                raise RequestError(f"Text {number}: {problem.message}", hint=problem.hint) from None
            if len(tokens[-1]) > longest:
                raise ContextLengthError(
                    f"Text {number} has {len(tokens[-1])} tokens; the model takes {longest}",
                    hint="shorten or split it",
                )
        for number, vector in enumerate(encoder.vectors(tokens)):
            line = Embedding(first + number, len(tokens[number]), vector.tolist())
            yield msgspec.json.encode(line)
        first += len(some)

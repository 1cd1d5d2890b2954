"""From tokens to vectors: texts through a model in batches, pooled and scaled to length one."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import ContextLengthError
from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, EncodingExecutor, Span
from tokenworks.inference.models.config import ModelConfig, Pooling

MOST_TOKENS = 2048
"""Tokens of one batch: enough to keep the kernels busy, few enough to keep in caches."""

Floats = NDArray[np.float32]


class Encoder:
    """Makes vectors of texts. Owns the executor's pages: nobody else may run it."""

    def __init__(
        self, executor: EncodingExecutor, config: ModelConfig, *, most_tokens: int = MOST_TOKENS
    ) -> None:
        self._executor = executor
        self._config = config
        self._most_tokens = max(most_tokens, config.context_length)
        # Each text may leave a part of its last page empty, and holds two tokens at least.
        executor.allocate(self._most_tokens // PAGE_TOKENS + self._most_tokens)

    def vectors(self, texts: Sequence[Sequence[int]]) -> Floats:
        """float32 [texts, hidden], each of length one. A text is its tokens, marks included.

        Raises ContextLengthError for a text that is empty or longer than the model takes.
        """
        longest = self._config.context_length
        for number, text in enumerate(texts):
            if not 0 < len(text) <= longest:
                raise ContextLengthError(
                    f"Text {number} has {len(text)} tokens; the model takes 1 to {longest}",
                    hint="shorten or split it",
                )
        result = np.empty((len(texts), self._config.hidden), np.float32)
        for chosen in batches([len(text) for text in texts], self._most_tokens):
            states = self._executor.encode(_batch([texts[number] for number in chosen]))
            start = 0
            for number in chosen:
                end = start + len(texts[number])
                result[number] = _pool(states[start:end], self._config.pooling)
                start = end
        return result


def batches(lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Numbers of the texts that go together: in their order, of at most so many tokens in all."""
    chosen: list[int] = []
    tokens = 0
    for number, length in enumerate(lengths):
        if chosen and tokens + length > most_tokens:
            yield chosen
            chosen, tokens = [], 0
        chosen.append(number)
        tokens += length
    if chosen:
        yield chosen


def _batch(texts: Sequence[Sequence[int]]) -> Batch:
    spans = []
    page = 0
    for text in texts:
        end = page - (-len(text) // PAGE_TOKENS)
        pages = np.arange(page, end, dtype=np.int32)
        spans.append(Span(start=0, length=len(text), pages=pages))
        page = end
    tokens = np.concatenate([np.asarray(text, np.int32) for text in texts])
    return Batch(tokens=tokens, spans=tuple(spans), logit_rows=np.empty(0, np.int32))


def _pool(states: Floats, pooling: Pooling) -> Floats:
    """One vector of a text's hidden states [tokens, hidden]."""
    match pooling:
        case "mean":
            pooled = states.mean(axis=0)
        case "cls":
            pooled = states[0]
        case "last":
            pooled = states[-1]
    length = np.linalg.norm(pooled)
    return np.asarray(pooled / max(float(length), 1e-12), np.float32)

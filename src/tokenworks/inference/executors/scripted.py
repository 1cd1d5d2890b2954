"""The fake executor: logits are a pure function of the sequence's tokens, read through its pages.

It remembers tokens where a real one remembers keys and values, so a wrong page table gives a
wrong answer here too.
"""

import time
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.executors.base import PAGE_TOKENS, Batch


def scripted_logits(tokens: NDArray[np.int32], vocabulary: int) -> NDArray[np.float32]:
    """The logits [vocabulary] that follow these tokens: arbitrary, and always the same."""
    digest = blake2b(np.ascontiguousarray(tokens, np.int32).tobytes(), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(digest, "little"))
    return generator.standard_normal(vocabulary, np.float32) * np.float32(3.0)


class ScriptedExecutor:
    """`delay_s` is the time that one forward takes."""

    description = "scripted"
    page_bytes = PAGE_TOKENS * 4

    def __init__(
        self, *, vocabulary_size: int = 97, context_length: int = 512, delay_s: float = 0.0
    ) -> None:
        self.vocabulary_size = vocabulary_size
        self.context_length = context_length
        self.forwards = 0
        self._delay_s = delay_s
        self._store = np.empty((0, PAGE_TOKENS), np.int32)

    def allocate(self, pages: int) -> None:
        self._store = np.full((pages, PAGE_TOKENS), -1, np.int32)

    def copy_rows(self, source: int, target: int, rows: int) -> None:
        self._store[target] = -1
        self._store[target, :rows] = self._store[source, :rows]

    def read_page(self, page: int) -> bytes:
        return bytes(self._store[page])

    def write_page(self, page: int, content: bytes | memoryview) -> None:
        self._store[page] = np.frombuffer(content, np.int32)

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        time.sleep(self._delay_s)
        self.forwards += 1
        row, logits = 0, []
        for span in batch.spans:
            places = np.arange(span.start, span.start + span.length)
            tokens = batch.tokens[row : row + span.length]
            self._store[span.pages[places // PAGE_TOKENS], places % PAGE_TOKENS] = tokens
            for wanted in batch.logit_rows[(batch.logit_rows >= row)]:
                if wanted < row + span.length:
                    seen = self._store[span.pages].ravel()[: span.start + wanted - row + 1]
                    assert seen.min() >= 0, "a token is read that was never computed"
                    logits.append(scripted_logits(seen, self.vocabulary_size))
            row += span.length
        return np.array(logits, np.float32).reshape(-1, self.vocabulary_size)

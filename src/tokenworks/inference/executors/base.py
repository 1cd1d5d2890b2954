"""The boundary between the engine and whatever computes: one forward over a paged KV store.

The engine owns the page tables; an executor owns the memory behind them and knows nothing of
requests.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PAGE_TOKENS = 16
"""Tokens in one page of KV store. Attention adds up page by page: this is part of the numerics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Consecutive rows of a batch that belong to one sequence.

    Row i of the span is token number `start + i` of its sequence. `pages[p]` is the KV page that
    holds tokens 16p … 16p+15 of the sequence; it covers at least `start + length` tokens. All
    tokens before `start` are already in those pages.
    """

    start: int
    length: int
    pages: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one forward runs.

    `tokens`: int32 [rows], the spans' tokens one after the other; `spans` cover all rows in order.
    `logit_rows`: int32 [wanted], the rows whose next-token logits are asked for, ascending.
    A page that is written by one span is not read by another of the same batch.
    """

    tokens: NDArray[np.int32]
    spans: tuple[Span, ...]
    logit_rows: NDArray[np.int32]


class Executor(Protocol):
    """Computes logits. Each row's result depends only on its sequence's tokens, bit for bit: not on
    the other rows, the chunking, or the number of threads."""

    @property
    def description(self) -> str:
        """For people, e.g. "native avx2, 2 threads"."""
        ...

    @property
    def vocabulary_size(self) -> int: ...

    @property
    def context_length(self) -> int:
        """Most tokens one sequence may hold."""
        ...

    @property
    def page_bytes(self) -> int:
        """Bytes of KV store that one page takes."""
        ...

    def allocate(self, pages: int) -> None:
        """Make room for this many pages, numbered from 0. Called once, before the first forward."""
        ...

    def copy_rows(self, source: int, target: int, rows: int) -> None:
        """Make the first `rows` tokens of page `target` those of page `source`, bit for bit; what
        else `target` held is forgotten."""
        ...

    def read_page(self, page: int) -> bytes:
        """What a page holds, `page_bytes` long, in this executor's own layout."""
        ...

    def write_page(self, page: int, content: bytes | memoryview) -> None:
        """Make a page hold what `read_page` gave, of an executor that is opened alike."""
        ...

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        """Compute and store KV for every row; return logits float32 [wanted, vocabulary].

        The result may be a view that the next forward overwrites.
        """
        ...


class EncodingExecutor(Protocol):
    """Computes what a model makes of texts before its head."""

    def allocate(self, pages: int) -> None: ...

    def encode(self, batch: Batch) -> NDArray[np.float32]:
        """The hidden states of every row, float32 [rows, hidden], after the last norm.

        An encoder's spans are whole sequences: they start at 0.
        """
        ...


class ModelExecutor(Executor, EncodingExecutor, Protocol):
    """Computes with a model's weights."""

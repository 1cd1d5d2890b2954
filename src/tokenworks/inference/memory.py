"""How much memory an engine takes for a model with its settings, before any of it is taken.

Pure: a model's header and settings in, bytes out. Knows nothing about what this machine has.
"""

import math
from collections.abc import Mapping

import msgspec

from tokenworks.errors import ConfigError
from tokenworks.inference.batcher import MOST_SCORED_ROWS
from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.executors.choose import context_length_of
from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.packing import footprint
from tokenworks.inference.models.rounding import Formats
from tokenworks.inference.models.tensors import TensorInfo
from tokenworks.inference.pages import pages_for
from tokenworks.inference.prediction import PROGRAM_BYTES
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.speculation.speculator import MOST_DRAFT_TOKENS

_FEWEST_PAGES = 2
_FLOAT = 4
_INPUT_BYTES = 8
"""Of each number that a product reads: its float, int8 and group's scales and sums, 5.4; where
products are wide two digits more and theirs, 2.5 (kernels/layout.h)."""
_OWN_ROWS = 16
"""Up to so many each thread prepares for itself (kernels/transformer.cpp)."""
_THREAD_BYTES = 2**21
_PARTS_BYTES = 2**24
"""Attention: scratch of a thread, and most that parts take in layers with the same window
(kernels/attention_plan.h)."""


class MemoryNeed(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that server and engine take together once the KV store is full and the largest batch
    has run. `draft` is all that a draft model takes. `kv_tokens` is what the store holds,
    `context_length` what a request may have of it."""

    weights: int
    kv: int
    buffers: int
    program: int
    draft: int = 0
    page_bytes: int
    kv_tokens: int
    context_length: int

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.buffers + self.program + self.draft

    def with_draft(self, own: "MemoryNeed") -> "MemoryNeed":
        """Beside a draft model that needs `own` by itself; it gets as many pages as this one."""
        pages = self.kv // self.page_bytes
        draft = own.weights + own.buffers + pages * own.page_bytes
        return msgspec.structs.replace(self, draft=draft)


def page_count(page_bytes: int, context_length: int, settings: EngineSettings) -> int:
    """The pages that the KV memory holds, and no more than all sequences together can need.

    Raises ConfigError if that is too few to serve anything.
    """
    affordable = settings.kv_memory_mb * 2**20 // page_bytes
    if affordable < _FEWEST_PAGES:
        raise ConfigError(
            f"kv_memory_mb {settings.kv_memory_mb} holds {affordable} pages of "
            f"{page_bytes} bytes, fewer than {_FEWEST_PAGES}",
            hint=f"set kv_memory_mb to {_megabytes(_FEWEST_PAGES * page_bytes)} or more",
        )
    return min(affordable, settings.max_sequences * pages_for(context_length))


def native_need(
    tensors: Mapping[str, TensorInfo],
    config: ModelConfig,
    settings: EngineSettings,
    *,
    formats: Formats,
    threads: int,
    wide: bool,
) -> MemoryNeed:
    """With the native kernels, on one of WIDE_PATHS if `wide`; matrices rounded to `formats`.

    Rows of the embedding are read from the file: its pages are the system's to take back.
    Raises ConfigError for a context or a KV memory that cannot be.
    """
    of = footprint(tensors, config, formats, wide=wide)
    of = msgspec.structs.replace(of, kv_format=settings.kv_format)
    rows = settings.max_batch_tokens
    inputs = config.hidden + config.heads * config.head_dim + config.feed_forward
    floats = 2 * config.hidden + config.heads * config.head_dim + 2 * config.rope_dim
    windows = len({config.window(layer) for layer in range(config.layers)})
    own = threads * min(rows, _OWN_ROWS)
    buffers = (rows + own) * _INPUT_BYTES * inputs + rows * _FLOAT * floats
    buffers += _logits(config, settings)
    buffers += threads * _THREAD_BYTES + windows * _PARTS_BYTES
    page_bytes = of.kv_bytes_per_token * PAGE_TOKENS
    return _need(config, settings, of.packed_bytes, page_bytes, buffers)


def reference_need(
    tensors: Mapping[str, TensorInfo], config: ModelConfig, settings: EngineSettings
) -> MemoryNeed:
    """With the numpy executor: weights, keys and values are float32, rows come in whole pages.

    Raises ConfigError for a context or a KV memory that cannot be.
    """
    weights = _FLOAT * sum(math.prod(info.shape) for info in tensors.values())
    keys, queries = config.kv_heads * config.head_dim, config.heads * config.head_dim
    page_bytes = 2 * _FLOAT * PAGE_TOKENS * config.layers * keys
    rows = PAGE_TOKENS * (settings.max_sequences + pages_for(settings.max_batch_tokens))
    row = 4 * config.hidden + 2 * queries + 2 * keys + 3 * config.feed_forward
    seen = 4 * keys + 4 * PAGE_TOKENS * config.heads  # of each token before, gathered and scored
    context_length = context_length_of(config, settings)
    buffers = _FLOAT * (rows * row + context_length * seen) + _logits(config, settings)
    return _need(config, settings, weights, page_bytes, buffers)


def most_kv_megabytes(need: MemoryNeed, usable: int) -> int:
    """The largest `kv_memory_mb` with which all fits into `usable` bytes; 0 if none does."""
    left = usable - (need.total - need.kv)
    return left // 2**20 if left >= _FEWEST_PAGES * need.page_bytes else 0


def full_context_megabytes(need: MemoryNeed) -> int:
    """The least `kv_memory_mb` with which one request may have the whole context."""
    return _megabytes(pages_for(need.context_length) * need.page_bytes)


def _need(
    config: ModelConfig, settings: EngineSettings, weights: int, page_bytes: int, buffers: int
) -> MemoryNeed:
    context_length = context_length_of(config, settings)
    pages = page_count(page_bytes, context_length, settings)
    tokens = pages * PAGE_TOKENS
    return MemoryNeed(
        weights=weights,
        kv=pages * page_bytes,
        buffers=buffers,
        program=PROGRAM_BYTES,
        page_bytes=page_bytes,
        kv_tokens=tokens,
        context_length=context_length,
    )


def _logits(config: ModelConfig, settings: EngineSettings) -> int:
    answered = settings.max_sequences
    if settings.speculation == "auto":
        answered *= 1 + MOST_DRAFT_TOKENS
    rows = min(settings.max_batch_tokens, answered + MOST_SCORED_ROWS)
    return rows * (config.vocabulary + config.hidden) * _FLOAT


def _megabytes(amount: int) -> int:
    return -(-amount // 2**20)

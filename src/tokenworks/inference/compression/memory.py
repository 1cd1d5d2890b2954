"""How much memory a compression takes, told before it is taken. Pure arithmetic."""

from typing import Final

from tokenworks.inference.compression.plan import part_of
from tokenworks.inference.compression.streams import SLAB_WEIGHTS
from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.model import Model

_FLOAT: Final = 4
_SLABS: Final = 4
"""A slab as it was, as it becomes, its product's part, and what the solver works on."""
_SQUARES: Final = 7 * 8
"""Bytes for each pair of inputs: both kinds of moments, a copy of each, a factor and its inverse
in float64, and what the solver keeps of them in float32."""
_LOGITS: Final = 4 * 64 * 2**20
"""Two sides of a piece, and what comparing them takes, when the layers' memory is free again."""


def memory_bytes(model: Model, tokens: int) -> int:
    """At most, beside the program, for so many tokens of all streams together."""
    config = model.config
    embedding = max(info.nbytes for name, info in model.tensors.items() if part_of(name))
    widest = max(config.hidden, config.feed_forward, config.heads * config.head_dim)
    layers = tokens * _token_floats(config) * _FLOAT + _SQUARES * widest * widest
    return max(layers, _LOGITS) + _SLABS * SLAB_WEIGHTS * _FLOAT + 2 * embedding


def _token_floats(config: ModelConfig) -> int:
    """What the reference executor holds of a token at its busiest."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    attention = 3 * queries + 4 * keys
    return 4 * config.hidden + max(attention, 4 * config.feed_forward)

"""What a model is made of: its sizes, how its blocks compute, and the tensors that follow.

Everything an executor must know of a model is here, whatever family or file it comes from. Names
of tensors and settings are GGUF's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tokenworks.inference.models.tensors import TensorType

VECTOR_TYPES = (TensorType.F32, TensorType.F16, TensorType.BF16)

Norm = Literal["rms", "layer"]
NormPlace = Literal["before", "around", "after"]
Activation = Literal["silu", "gelu_tanh", "gelu"]
Positions = Literal["rotary", "learned"]
Pooling = Literal["mean", "cls", "last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """How the blocks of a model compute. The defaults are Llama's.

    `norms` says where a branch (attention, feed forward) is normalised: "before" it; "around" it,
    before and after, the residual untouched (Gemma 3); or "after" it was added to the residual
    (BERT). `gated` is act(gate) * up, else act(up). `head_norms`: queries and keys are normalised
    head by head before they are rotated (Qwen 3). Not `causal`: every token sees all others.
    """

    norm: Norm = "rms"
    norms: NormPlace = "before"
    activation: Activation = "silu"
    gated: bool = True
    head_norms: bool = False
    input_biases: bool = False
    output_bias: bool = False
    feed_forward_biases: bool = False
    causal: bool = True
    positions: Positions = "rotary"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The sizes and constants of a model.

    `feed_forward` is the inner width of that branch. Of a head's `head_dim` elements `rope_dim` are
    rotated, in pairs (i, i + rope_dim / 2), or (2i, 2i + 1) if `rope_interleaved`; pair i turns by
    rope_theta ** (-2i / rope_dim), divided by `rope_scale` and by `rope_factors[i]`, or by the
    file's `rope_freqs.weight` if `has_rope_factors`. Layers with a window turn by
    `window_rope_theta` alone, where it is not 0.

    `windows[layer]` is how many tokens a token sees, itself included; 0: all; `()`: 0 everywhere.
    `query_scale` multiplies queries, `embedding_scale` embeddings; `norm_offset` is added to the
    weights of norms. Learned positions begin in row `position_offset` of their matrix; they and
    the token types have no rows in a rotary model. `pooling` is for encoders.
    """

    name: str
    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    context_length: int
    norm_epsilon: float
    block: Block = field(default_factory=Block)
    rope_theta: float = 10_000.0
    rope_dim: int = 0
    rope_scale: float = 1.0
    rope_factors: tuple[float, ...] = ()
    has_rope_factors: bool = False
    rope_interleaved: bool = False
    window_rope_theta: float = 0.0
    windows: tuple[int, ...] = ()
    query_scale: float = 0.0
    embedding_scale: float = 1.0
    norm_offset: float = 0.0
    position_rows: int = 0
    position_offset: int = 0
    token_types: int = 0
    tied_embedding: bool = False
    pooling: Pooling = "mean"

    @property
    def is_encoder(self) -> bool:
        """Whether it makes vectors of texts rather than the next token."""
        return not self.block.causal

    @property
    def positions(self) -> int:
        """Learned positions that tokens can have; 0 in a rotary model."""
        return self.position_rows - self.position_offset

    @property
    def score_scale(self) -> float:
        """What queries are multiplied with before they meet the keys."""
        return self.query_scale or self.head_dim**-0.5

    def window(self, layer: int) -> int:
        """How many tokens a token of this layer sees, itself included; 0: all."""
        return self.windows[layer] if self.windows else 0


Expected = tuple[str, tuple[int, ...], tuple[TensorType, ...]]


def expected_tensors(config: ModelConfig) -> Iterator[Expected]:
    """Name, shape and possible types of every tensor of a model."""
    yield from _outer_tensors(config)
    for layer in range(config.layers):
        for name, shape, types in _block_tensors(config):
            yield f"blk.{layer}.{name}", shape, types


def _outer_tensors(config: ModelConfig) -> Iterator[Expected]:
    vocabulary = (config.vocabulary, config.hidden)
    yield _matrix("token_embd", vocabulary)
    if config.block.positions == "learned":
        yield "position_embd.weight", (config.position_rows, config.hidden), VECTOR_TYPES
        yield "token_types.weight", (config.token_types, config.hidden), VECTOR_TYPES
        yield from _norm(config, "token_embd_norm")
    if config.has_rope_factors:
        yield "rope_freqs.weight", (config.rope_dim // 2,), (TensorType.F32,)
    if config.is_encoder:
        return
    yield from _norm(config, "output_norm")
    if not config.tied_embedding:
        yield _matrix("output", vocabulary)


def _block_tensors(config: ModelConfig) -> Iterator[Expected]:
    block, hidden = config.block, config.hidden
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    for name in norm_names(config):
        yield from _norm(config, name)
    for name, rows in (("attn_q", queries), ("attn_k", keys), ("attn_v", keys)):
        yield _matrix(name, (rows, hidden))
        if block.input_biases:
            yield _vector(f"{name}.bias", rows)
    if block.head_norms:
        yield _vector("attn_q_norm.weight", config.head_dim)
        yield _vector("attn_k_norm.weight", config.head_dim)
    yield _matrix("attn_output", (hidden, queries))
    if block.output_bias:
        yield _vector("attn_output.bias", hidden)
    for name, shape in _feed_forward_matrices(config):
        yield _matrix(name, shape)
        if block.feed_forward_biases:
            yield _vector(f"{name}.bias", shape[0])


def _feed_forward_matrices(config: ModelConfig) -> Iterator[tuple[str, tuple[int, int]]]:
    if config.block.gated:
        yield "ffn_gate", (config.feed_forward, config.hidden)
    yield "ffn_up", (config.feed_forward, config.hidden)
    yield "ffn_down", (config.hidden, config.feed_forward)


def norm_names(config: ModelConfig) -> tuple[str, ...]:
    """The norms of a block, each over the hidden size."""
    match config.block.norms:
        case "before":
            return "attn_norm", "ffn_norm"
        case "around":
            return "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"
        case "after":
            return "attn_output_norm", "layer_output_norm"


def _norm(config: ModelConfig, name: str) -> Iterator[Expected]:
    yield _vector(f"{name}.weight", config.hidden)
    if config.block.norm == "layer":
        yield _vector(f"{name}.bias", config.hidden)


def _vector(name: str, size: int) -> Expected:
    return name, (size,), VECTOR_TYPES


def _matrix(name: str, shape: tuple[int, int]) -> Expected:
    return f"{name}.weight", shape, tuple(TensorType)

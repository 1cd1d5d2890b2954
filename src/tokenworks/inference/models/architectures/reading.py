"""From what a model file says of itself to a ModelConfig: what all families have in common."""

import math
from collections.abc import Callable
from dataclasses import replace

from tokenworks.inference.models.architectures.description import Architecture
from tokenworks.inference.models.architectures.values import Values
from tokenworks.inference.models.config import Activation, Block, ModelConfig, Pooling

ShapeOf = Callable[[str], tuple[int, ...] | None]
"""The shape of a tensor by GGUF's name, None if the file has none of that name."""

# What config.json calls them. GGUF files do not say: their family does.
_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu": "gelu",
}
_POOLINGS: dict[int, Pooling] = {1: "mean", 2: "cls", 3: "last"}
_FOREIGN = {
    "expert_count": "mixture-of-experts",
    "quantization": "a folder of quantised weights",
    "attn_logit_softcapping": "capping of attention scores",
    "final_logit_softcapping": "capping of logits",
    "attention.bidirectional": "bidirectional attention in a decoder",
}
# What scales rotations in ways of its own: refused unless it is 1.
_SCALES = {
    "rope.scaling.attn_factor": "a scale of rotated queries and keys",
    "rope.scale_linear": "an old way to scale positions",
    "partial_rotary_factor": "rotating a part of each head",  # in folders; no family here does
}


def read_config(
    architecture: Architecture, values: Values, *, name: str, shape_of: ShapeOf
) -> ModelConfig:
    """The configuration. Raises ModelFileError, naming what is missing, wrong or unsupported."""
    for key, what in _FOREIGN.items():
        values.refuse(key, what)
    for key, what in _SCALES.items():
        values.refuse(key, what, unless=1)
    hidden = values.size("embedding_length")
    heads = values.size("attention.head_count")
    kv_heads = values.size("attention.head_count_kv", default=heads)
    if heads % kv_heads:
        raise values.error(f"{heads} heads cannot share {kv_heads} key-value heads evenly")
    head_dim = _head_dim(values, hidden, heads)
    block = _block(architecture, values, shape_of)
    config = ModelConfig(
        name=name,
        architecture=architecture.name,
        layers=_layers(values, shape_of, (heads * head_dim, hidden)),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        feed_forward=values.size("feed_forward_length"),
        vocabulary=_rows(values, shape_of, "token_embd.weight"),
        context_length=values.size("context_length"),
        norm_epsilon=values.number(
            f"attention.layer_norm{'_rms' if block.norm == 'rms' else ''}_epsilon"
        ),
        block=block,
        tied_embedding=block.causal and _tied(values, shape_of),
        pooling=_pooling(values),
    )
    if block.positions == "learned":
        config = _with_learned_positions(config, values, shape_of)
    else:
        config = _with_rope(config, values, shape_of)
    return architecture.adjust(config, values)


def _block(architecture: Architecture, values: Values, shape_of: ShapeOf) -> Block:
    """A family's block; what only some of its models have is there if the first layer has it."""

    def has(name: str) -> bool:
        return shape_of(f"blk.0.{name}.bias") is not None

    block = architecture.block
    if values.has("attention.causal") and values.flag("attention.causal") is not block.causal:
        wanted = "true" if block.causal else "false"
        raise values.error(f"{values.key('attention.causal')} is not {wanted}")
    block = replace(
        block,
        input_biases=block.input_biases or has("attn_q"),
        output_bias=block.output_bias or has("attn_output"),
        feed_forward_biases=block.feed_forward_biases or has("ffn_up"),
    )
    if not values.has("hidden_act"):
        return block
    said = values.choice("hidden_act", tuple(_ACTIVATIONS), default="")
    return replace(block, activation=_ACTIVATIONS[said])


def _head_dim(values: Values, hidden: int, heads: int) -> int:
    if not values.has("attention.key_length"):
        if hidden % heads:
            raise values.error(
                f"{values.key('embedding_length')} {hidden} is no multiple of {heads} heads"
            )
        return hidden // heads
    head_dim = values.size("attention.key_length")
    value_dim = values.size("attention.value_length", default=head_dim)
    if value_dim != head_dim:
        raise values.error(f"keys of {head_dim} and values of {value_dim} elements")
    return head_dim


def _layers(values: Values, shape_of: ShapeOf, queries: tuple[int, int]) -> int:
    """How many layers there are, of that many queries: as many as the file has tensors of.

    What follows may take memory for every layer and every dimension of a head, so both are held to
    tensors first, whose sizes were checked against the file.
    """
    layers = values.size("block_count")
    for layer in range(layers):
        name = f"blk.{layer}.attn_q.weight"
        shape = shape_of(name)
        if shape is None:
            raise values.error(f"tensor {name!r} is missing")
        if shape != queries:
            raise values.error(f"tensor {name!r} has shape {list(shape)}, not {list(queries)}")
    return layers


def _tied(values: Values, shape_of: ShapeOf) -> bool:
    """Whether the embedding is the output head too. Folders say so, GGUF files have no head."""
    said = values.flag("tied_embedding")
    if shape_of("output.weight") is not None:
        return said
    if values.has("tied_embedding") and not said:
        raise values.error(
            f"{values.key('tied_embedding')} is false, but tensor 'output.weight' is missing"
        )
    return True


def _rows(values: Values, shape_of: ShapeOf, name: str) -> int:
    shape = shape_of(name)
    if not shape:
        raise values.error(f"tensor {name!r} is missing")
    return shape[0]


def _pooling(values: Values) -> Pooling:
    said = values.size("pooling_type", default=1)
    if said not in _POOLINGS:
        raise values.error(f"{values.key('pooling_type')} {said} is not supported")
    return _POOLINGS[said]


def _with_learned_positions(config: ModelConfig, values: Values, shape_of: ShapeOf) -> ModelConfig:
    values.choice("position_embedding_type", ("absolute",), default="absolute")
    values.refuse("is_decoder", "an encoder that is used as a decoder")
    rows = _rows(values, shape_of, "position_embd.weight")
    return replace(
        config,
        context_length=min(config.context_length, rows),
        position_rows=rows,
        token_types=_rows(values, shape_of, "token_types.weight"),
    )


def _with_rope(config: ModelConfig, values: Values, shape_of: ShapeOf) -> ModelConfig:
    rope_dim = values.size("rope.dimension_count", default=config.head_dim)
    if rope_dim % 2 or rope_dim > config.head_dim:
        raise values.error(
            f"{values.key('rope.dimension_count')} is {rope_dim}, not an even number "
            f"up to {config.head_dim}"
        )
    theta = values.number("rope.freq_base", default=10_000.0)
    kind = values.choice(
        "rope.scaling.type", ("none", "default", "linear", "llama3"), default="none"
    )
    if not values.has("rope.scaling.type"):
        values.refuse("rope.scaling.factor", "scaling of no said type", unless=1)
    return replace(
        config,
        rope_theta=theta,
        rope_dim=rope_dim,
        rope_scale=values.number("rope.scaling.factor") if kind == "linear" else 1.0,
        rope_factors=_llama3_factors(values, theta, rope_dim) if kind == "llama3" else (),
        has_rope_factors=shape_of("rope_freqs.weight") is not None,
    )


def _llama3_factors(values: Values, theta: float, rope_dim: int) -> tuple[float, ...]:
    """By how much each pair's frequency is divided: short waves not at all, long ones by `factor`,
    those between by something between.

    Source: Llama 3.1's `apply_scaling` (meta-llama/llama-models).
    """
    factor = values.number("rope.scaling.factor")
    low = values.number("rope.scaling.low_freq_factor")
    high = values.number("rope.scaling.high_freq_factor")
    trained = values.number("rope.scaling.original_context_length")
    if high <= low:
        raise values.error(
            f"{values.key('rope.scaling.high_freq_factor')} is not above the low one"
        )

    def divisor(pair: int) -> float:
        turns = trained * math.pow(theta, -2.0 * pair / rope_dim) / (2 * math.pi)
        kept = min(1.0, max(0.0, (turns - low) / (high - low)))
        return 1.0 / ((1.0 - kept) / factor + kept)

    return tuple(divisor(pair) for pair in range(rope_dim // 2))

"""Gemma 3: norms around each branch and on heads, GeGLU, scaled embeddings, and five of six layers
that see a window only and rotate slower. Its folders store norm weights less one.
"""

import math
from dataclasses import replace

from tokenworks.inference.models.architectures.description import DECODER_TENSORS, Architecture
from tokenworks.inference.models.architectures.values import Values
from tokenworks.inference.models.architectures.windows import listed_windows
from tokenworks.inference.models.config import Block, ModelConfig

_PATTERN = 6  # every sixth layer sees all
_WINDOW_THETA = 10_000.0
_LAYERS_OF_27B = 62  # its queries are scaled by the hidden size a head has, not by its dimensions


def _adjust(config: ModelConfig, values: Values) -> ModelConfig:
    values.choice("rope.scaling.type_swa", ("default",), default="default")
    return replace(
        config,
        windows=listed_windows(values, config.layers) or _by_pattern(config, values),
        window_rope_theta=values.number("rope.freq_base_swa", default=_WINDOW_THETA),
        query_scale=_query_scale(config, values),
        embedding_scale=math.sqrt(config.hidden),
    )


def _by_pattern(config: ModelConfig, values: Values) -> tuple[int, ...]:
    window = values.size("attention.sliding_window")
    pattern = values.size("attention.sliding_window_pattern", default=_PATTERN)
    return tuple(0 if (layer + 1) % pattern == 0 else window for layer in range(config.layers))


def _query_scale(config: ModelConfig, values: Values) -> float:
    if values.has("query_pre_attn_scalar"):
        size = values.number("query_pre_attn_scalar")
    elif config.layers == _LAYERS_OF_27B:
        size = config.hidden / config.heads
    else:
        size = float(config.head_dim)
    return 1.0 / math.sqrt(size)


GEMMA3 = Architecture(
    name="gemma3",
    gguf="gemma3",
    model_types=("gemma3_text", "gemma3"),
    block=Block(norms="around", activation="gelu_tanh", head_norms=True),
    tensors={
        **DECODER_TENSORS,
        "blk.{}.post_attention_norm": "layers.{}.post_attention_layernorm",
        "blk.{}.ffn_norm": "layers.{}.pre_feedforward_layernorm",
        "blk.{}.post_ffw_norm": "layers.{}.post_feedforward_layernorm",
    },
    # With eyes, the text model lies one level deeper; the eyes are not read.
    roots=("model.", "model.language_model.", "language_model.model."),
    ignored=(r"(model\.)?vision_tower\..*", r"(model\.)?multi_modal_projector\..*"),
    folder_norm_offset=1.0,
    folder_defaults={  # those of transformers' Gemma3TextConfig; the released folders rely on them
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256,
        "tie_word_embeddings": True,
    },
    adjust=_adjust,
)

"""The form in which a family of models is described."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tokenworks.inference.models.architectures.values import Values
from tokenworks.inference.models.config import Block, ModelConfig

# Stems of tensor names in the folders of most decoders, by GGUF's; `{}` is the layer. They follow
# the root; a leading "/" means that this one does not.
DECODER_TENSORS: Mapping[str, str] = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "output": "/lm_head",
    "blk.{}.attn_norm": "layers.{}.input_layernorm",
    "blk.{}.attn_q": "layers.{}.self_attn.q_proj",
    "blk.{}.attn_k": "layers.{}.self_attn.k_proj",
    "blk.{}.attn_v": "layers.{}.self_attn.v_proj",
    "blk.{}.attn_q_norm": "layers.{}.self_attn.q_norm",
    "blk.{}.attn_k_norm": "layers.{}.self_attn.k_norm",
    "blk.{}.attn_output": "layers.{}.self_attn.o_proj",
    "blk.{}.ffn_norm": "layers.{}.post_attention_layernorm",
    "blk.{}.ffn_gate": "layers.{}.mlp.gate_proj",
    "blk.{}.ffn_up": "layers.{}.mlp.up_proj",
    "blk.{}.ffn_down": "layers.{}.mlp.down_proj",
}


def _as_read(config: ModelConfig, values: Values) -> ModelConfig:
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A family of models, as its files name and lay it out.

    `gguf` is its `general.architecture` (empty: it shares another's), `interleaved_in_gguf` says
    that llama.cpp's converter reorders queries and keys for pairs (2i, 2i + 1). `model_types` are
    what config.json may call it; `tensors` maps GGUF's stems to those of a folder, which stand
    behind one of `roots`; `ignored` are patterns of tensors that are not part of the model proper.
    `folder_defaults` are settings that config.json leaves out, by its names; `folder_norm_offset`
    is what folders leave out of the weights of norms. `adjust` sets what this family computes in a
    way of its own.
    """

    name: str
    gguf: str = ""
    interleaved_in_gguf: bool = False
    model_types: tuple[str, ...]
    block: Block = field(default_factory=Block)
    tensors: Mapping[str, str] = field(default_factory=lambda: DECODER_TENSORS)
    roots: tuple[str, ...] = ("model.", "")  # the latter where a model was saved without its head
    ignored: tuple[str, ...] = ()
    folder_defaults: Mapping[str, object] = field(default_factory=dict)
    folder_norm_offset: float = 0.0
    adjust: Callable[[ModelConfig, Values], ModelConfig] = _as_read

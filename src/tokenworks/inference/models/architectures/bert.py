"""BERT and its descendants for embeddings (MiniLM, BGE, E5): encoders with learned positions."""

from tokenworks.inference.models.architectures.description import Architecture
from tokenworks.inference.models.config import Block

ENCODER_BLOCK = Block(
    norm="layer",
    norms="after",
    activation="gelu",
    gated=False,
    input_biases=True,
    output_bias=True,
    feed_forward_biases=True,
    causal=False,
    positions="learned",
)
ENCODER_TENSORS = {
    "token_embd": "embeddings.word_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
    "blk.{}.attn_q": "encoder.layer.{}.attention.self.query",
    "blk.{}.attn_k": "encoder.layer.{}.attention.self.key",
    "blk.{}.attn_v": "encoder.layer.{}.attention.self.value",
    "blk.{}.attn_output": "encoder.layer.{}.attention.output.dense",
    "blk.{}.attn_output_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "blk.{}.ffn_up": "encoder.layer.{}.intermediate.dense",
    "blk.{}.ffn_down": "encoder.layer.{}.output.dense",
    "blk.{}.layer_output_norm": "encoder.layer.{}.output.LayerNorm",
}
# Heads of training tasks, and a counter that old checkpoints hold.
ENCODER_IGNORED = (r"(.*\.)?pooler\..*", r"cls\..*", r"lm_head\..*", r".*\.position_ids")

BERT = Architecture(
    name="bert",
    gguf="bert",
    model_types=("bert",),
    block=ENCODER_BLOCK,
    tensors=ENCODER_TENSORS,
    roots=("", "bert."),
    ignored=ENCODER_IGNORED,
)

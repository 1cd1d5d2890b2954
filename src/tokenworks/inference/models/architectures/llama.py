"""Llama 1 to 3, SmolLM2 and all that share their blocks: RMS norms, SwiGLU, rotated positions."""

from tokenworks.inference.models.architectures.description import Architecture

LLAMA = Architecture(
    name="llama",
    gguf="llama",
    interleaved_in_gguf=True,
    model_types=("llama",),
    ignored=(r".*\.rotary_emb\.inv_freq",),
)

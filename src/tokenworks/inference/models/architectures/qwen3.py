"""Qwen 3: Llama's blocks with a norm on every head's queries and keys."""

from tokenworks.inference.models.architectures.description import Architecture
from tokenworks.inference.models.architectures.qwen2 import windows_if_used
from tokenworks.inference.models.config import Block

QWEN3 = Architecture(
    name="qwen3",
    gguf="qwen3",
    model_types=("qwen3",),
    block=Block(head_norms=True),
    adjust=windows_if_used,
)

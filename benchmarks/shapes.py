"""The model of the second shape class: random weights, layers 2,048 wide, about a billion of them.

Memory bandwidth rules there. The shape is Llama's: 16 layers, 32 heads of 64 on 8 of keys, a feed
forward of 8,192 (as Llama 3.2 1B); the vocabulary is that of the model the benchmark runs, so that
every peer opens the file. What is in the weights takes no time: layers repeat one another's.
"""

from dataclasses import replace
from pathlib import Path

from harness import PEERS, note

from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.gguf import read_gguf
from tokenworks.inference.models.gguf_values import LazyArray, ValueType
from tokenworks.inference.models.gguf_writer import Writable
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.models.tensors import TensorType

MOSTLY_Q4_0 = 2
"""GGUF's number for what OpenVINO will not open a file without."""
WIDE = replace(
    TINY_CONFIG,
    name="random 1B",
    layers=16,
    hidden=2048,
    heads=32,
    kv_heads=8,
    head_dim=64,
    feed_forward=8192,
    context_length=8192,
    rope_theta=500_000.0,
    rope_dim=64,
)


def wide_model(vocabulary_of: Path) -> Path:
    """Its file, written into `.peers` if it is not there: matrices in Q4_0, the smallest type that
    all engines are fast with, head in Q8_0 (0.66 GB)."""
    target = PEERS / "random-1b.Q4_0.gguf"
    if target.exists():
        return target
    note(f"writing {target.name}")
    kept = _vocabulary(vocabulary_of)
    tokens = kept["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    config: ModelConfig = replace(WIDE, vocabulary=len(tokens))
    write_random_model(
        target,
        config,
        type=TensorType.Q4_0,
        embedding_type=TensorType.Q8_0,
        metadata={**kept, "general.file_type": MOSTLY_Q4_0},
        repeated=True,
    )
    return target


def _vocabulary(path: Path) -> dict[str, Writable]:
    """All that a model file says of its tokenizer."""
    kept: dict[str, Writable] = {}
    for key, value in read_gguf(path).metadata.items():
        if not key.startswith("tokenizer."):
            continue
        if isinstance(value, LazyArray):
            strings = value.type is ValueType.STRING
            kept[key] = value.strings() if strings else value.numbers()
        else:
            kept[key] = value
    return kept

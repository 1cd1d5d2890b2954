"""Writes small GGUF files with random weights: real files for tests, benchmarks and trials."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.models.architectures.description import Architecture
from tokenworks.inference.models.config import VECTOR_TYPES, ModelConfig, expected_tensors
from tokenworks.inference.models.gguf_writer import EncodedTensor, Writable, write_gguf
from tokenworks.inference.models.quantisation import quantise
from tokenworks.inference.models.tensors import TensorType

_PART_WEIGHTS: Final = 1 << 22

TINY_CONFIG = ModelConfig(
    name="tiny",
    architecture="llama",
    layers=2,
    hidden=64,
    heads=4,
    kv_heads=2,
    head_dim=16,
    feed_forward=96,
    vocabulary=320,
    context_length=512,
    norm_epsilon=1e-5,
    rope_theta=10_000.0,
    rope_dim=16,
    rope_interleaved=True,
    tied_embedding=True,
)


def tiny_config(architecture: Architecture) -> ModelConfig:
    """A tiny model of a family that GGUF knows."""
    config = replace(
        TINY_CONFIG,
        name=f"tiny {architecture.name}",
        architecture=architecture.name,
        block=architecture.block,
        rope_interleaved=architecture.interleaved_in_gguf,
    )
    if architecture.name == "gemma3":
        config = replace(
            config,
            layers=7,
            windows=tuple(0 if layer == 5 else 24 for layer in range(7)),
            window_rope_theta=10_000.0,
            rope_theta=1e6,
            embedding_scale=math.sqrt(config.hidden),
            query_scale=1.0 / math.sqrt(config.head_dim),
        )
    if config.is_encoder:
        config = replace(
            config,
            kv_heads=config.heads,
            tied_embedding=False,
            rope_dim=0,
            position_rows=config.context_length,
            token_types=2,
        )
    return config


def write_random_model(
    path: Path,
    config: ModelConfig = TINY_CONFIG,
    *,
    type: TensorType = TensorType.F32,
    embedding_type: TensorType | None = None,
    seed: int = 0,
    metadata: Mapping[str, Writable] | None = None,
    repeated: bool = False,
) -> None:
    """Write a model of this configuration whose matrices have this type; norms are F32.

    `embedding_type` is for the embedding and the output, `type` if None. `metadata` is added, a
    tokenizer's for instance (`vocabulary` must then be its size). `repeated`: every matrix of a
    shape has the same weights, made once, which is how a large model is made in a moment.
    """
    write_gguf(
        path,
        {**config_metadata(config), **(metadata or {})},
        _tensors(config, type, type if embedding_type is None else embedding_type, seed, repeated),
    )


def config_metadata(config: ModelConfig) -> dict[str, Writable]:
    """The GGUF metadata that `load_config` reads back as this configuration."""
    rms = "_rms" if config.block.norm == "rms" else ""
    norm_epsilon = f"attention.layer_norm{rms}_epsilon"
    values: dict[str, Writable] = {
        "block_count": config.layers,
        "embedding_length": config.hidden,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "feed_forward_length": config.feed_forward,
        "vocab_size": config.vocabulary,
        "context_length": config.context_length,
        norm_epsilon: config.norm_epsilon,
    }
    if config.block.positions == "rotary":
        values |= {"rope.freq_base": config.rope_theta, "rope.dimension_count": config.rope_dim}
    if config.windows:
        values["attention.sliding_window"] = max(config.windows)
    if config.rope_scale != 1.0:
        values |= {"rope.scaling.type": "linear", "rope.scaling.factor": config.rope_scale}
    general: dict[str, Writable] = {
        "general.architecture": config.architecture,
        "general.name": config.name,
    }
    return general | {f"{config.architecture}.{key}": value for key, value in values.items()}


def _tensors(
    config: ModelConfig, type: TensorType, embedding_type: TensorType, seed: int, repeated: bool
) -> Iterator[EncodedTensor]:
    random = np.random.default_rng(seed)
    made: dict[tuple[TensorType, tuple[int, ...]], EncodedTensor] = {}
    for name, shape, types in expected_tensors(config):
        if name.endswith(".bias"):
            stored, values = TensorType.F32, random.normal(0, 0.2, shape)
        elif len(shape) == 1:  # norms, and the factors of rope_freqs
            stored, values = TensorType.F32, random.uniform(0.8, 1.25, shape)
        elif types == VECTOR_TYPES:  # learned positions
            stored, values = TensorType.F32, random.normal(0, shape[-1] ** -0.5, shape)
        else:
            stored = embedding_type if name in ("token_embd.weight", "output.weight") else type
            if not (repeated and (stored, shape) in made):
                raw = _matrix(random, shape, stored)
                made[stored, shape] = EncodedTensor(name, stored, shape, raw)
            yield replace(made[stored, shape], name=name)
            continue
        yield EncodedTensor(name, stored, shape, quantise(values, stored))


def _matrix(
    random: np.random.Generator, shape: tuple[int, ...], type: TensorType
) -> NDArray[np.uint8]:
    """Encoded random weights, a bounded number at a time."""
    step = max(1, _PART_WEIGHTS // shape[-1])
    parts = []
    for begin in range(0, shape[0], step):
        rows = min(step, shape[0] - begin)
        parts.append(quantise(random.normal(0, shape[-1] ** -0.5, (rows, *shape[1:])), type))
    return np.concatenate(parts)

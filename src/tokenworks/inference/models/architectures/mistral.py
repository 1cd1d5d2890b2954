"""Mistral: Llama's blocks; early ones see only a window of tokens. Its GGUF files are Llama's."""

from dataclasses import replace

from tokenworks.inference.models.architectures.description import Architecture
from tokenworks.inference.models.architectures.values import Values
from tokenworks.inference.models.config import ModelConfig


def _windows(config: ModelConfig, values: Values) -> ModelConfig:
    if not values.has("attention.sliding_window"):
        return config
    window = values.size("attention.sliding_window")
    return replace(config, windows=(window,) * config.layers)


MISTRAL = Architecture(
    name="mistral",
    model_types=("mistral",),
    folder_defaults={"sliding_window": 4096},  # transformers' own; "null" turns it off
    adjust=_windows,
)

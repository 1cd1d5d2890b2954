"""Qwen 2 and 2.5: Llama's blocks with biases on queries, keys and values."""

from dataclasses import replace

from tokenworks.inference.models.architectures.description import Architecture
from tokenworks.inference.models.architectures.values import Values
from tokenworks.inference.models.architectures.windows import listed_windows
from tokenworks.inference.models.config import Block, ModelConfig


def windows_if_used(config: ModelConfig, values: Values) -> ModelConfig:
    """Qwen's folders name a window that only `use_sliding_window` turns on, from a layer on."""
    if not values.flag("use_sliding_window"):
        return config
    listed = listed_windows(values, config.layers)
    if not listed:
        window = values.size("attention.sliding_window")
        first = values.size("max_window_layers", least=0)
        listed = tuple(window if layer >= first else 0 for layer in range(config.layers))
    return replace(config, windows=listed)


QWEN2 = Architecture(
    name="qwen2",
    gguf="qwen2",
    model_types=("qwen2",),
    block=Block(input_biases=True),
    adjust=windows_if_used,
)

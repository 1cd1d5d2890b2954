"""Reads a model's configuration from a Hugging Face folder, and which tensor is which."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.architectures.description import Architecture
from tokenworks.inference.models.architectures.reading import read_config
from tokenworks.inference.models.architectures.registry import ARCHITECTURES, of_model_type
from tokenworks.inference.models.architectures.values import Values, shown
from tokenworks.inference.models.architectures.windows import FULL, WINDOWED
from tokenworks.inference.models.checks import check_tensors
from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.folder_pooling import POOLING_FILE, read_pooling
from tokenworks.inference.models.safetensors_header import unread_dtype
from tokenworks.inference.models.tensors import TensorInfo

Json = Mapping[str, object]

# GGUF's names of settings, and those of config.json, the first that is there.
_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "block_count": ("num_hidden_layers",),
    "embedding_length": ("hidden_size",),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "feed_forward_length": ("intermediate_size",),
    "context_length": ("max_position_embeddings",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_eps",),
    "attention.sliding_window": ("sliding_window",),
    "attention.sliding_window_pattern": ("sliding_window_pattern", "_sliding_window_pattern"),
    "attention.bidirectional": ("use_bidirectional_attention",),
    "hidden_act": ("hidden_activation", "hidden_act"),
    "tied_embedding": ("tie_word_embeddings",),
    "expert_count": ("num_local_experts", "num_experts", "n_routed_experts"),
    "quantization": ("quantization_config",),
    "rope.freq_base": ("rope_theta",),
    "rope.freq_base_swa": ("rope_local_base_freq",),
    "rope.scaling.type": ("rope_type", "type"),
    "rope.scaling.factor": ("factor",),
    "rope.scaling.low_freq_factor": ("low_freq_factor",),
    "rope.scaling.high_freq_factor": ("high_freq_factor",),
    "rope.scaling.original_context_length": ("original_max_position_embeddings",),
}
# Of layers with a window, where `rope_parameters` has them apart.
_WINDOW_KEYS: Final = {"rope.freq_base_swa": "rope_theta", "rope.scaling.type_swa": "rope_type"}


def load_folder_config(
    path: Path,
    settings: Json,
    tensors: Mapping[str, TensorInfo],
    foreign: Mapping[str, str] = MappingProxyType({}),
) -> tuple[ModelConfig, dict[str, str]]:
    """The configuration, and the folder's name of each tensor by GGUF's name.

    `settings` is config.json, `tensors` are the folder's by their own names, `foreign` the dtypes
    of those that are not read, an error where the model needs one. Raises ModelFileError, naming
    what is missing, wrong or unsupported.
    """
    architecture = architecture_of(path, settings)
    names = _tensor_names(architecture, [*tensors, *foreign])
    for stored in names.values():
        if stored in foreign:
            raise unread_dtype(path, stored, foreign[stored])
    values = Values(path, _lookup(path, architecture, settings))

    def shape_of(name: str) -> tuple[int, ...] | None:
        return tensors[names[name]].shape if name in names else None

    config = read_config(architecture, values, name=path.name, shape_of=shape_of)
    config = replace(config, norm_offset=architecture.folder_norm_offset)
    if config.tied_embedding:
        names.pop("output.weight", None)
    check_tensors(path, {name: tensors[stored] for name, stored in names.items()}, config)
    _check_strangers(path, architecture, tensors, names)
    return config, names


def architecture_of(path: Path, settings: Json) -> Architecture:
    """The family that config.json names. Raises ModelFileError for one that is not supported."""
    name = settings.get("model_type")
    architecture = of_model_type(name) if isinstance(name, str) else None
    if architecture is None:
        supported = ", ".join(sorted({type for a in ARCHITECTURES for type in a.model_types}))
        raise ModelFileError(
            f"Model folder '{path}': model_type {shown(name)} is not supported",
            hint=f"supported: {supported}",
        )
    return architecture


def _tensor_names(architecture: Architecture, tensors: Collection[str]) -> dict[str, str]:
    """The folder's name of every tensor that the family knows, by GGUF's name."""
    embedding = architecture.tensors["token_embd"]
    root = next(
        (root for root in architecture.roots if f"{root}{embedding}.weight" in tensors),
        architecture.roots[0],
    )
    patterns = []
    for ours, theirs in architecture.tensors.items():
        stem = theirs[1:] if theirs.startswith("/") else root + theirs
        numbered = re.escape(stem).replace(r"\{\}", r"(0|[1-9]\d*)")
        patterns.append((re.compile(rf"{numbered}\.(weight|bias)"), ours))
    names = {}
    for name in tensors:
        for pattern, ours in patterns:
            if match := pattern.fullmatch(name):
                *layer, kind = match.groups()
                names[f"{ours.format(*layer)}.{kind}"] = name
    return names


def _check_strangers(
    path: Path,
    architecture: Architecture,
    tensors: Mapping[str, TensorInfo],
    names: Mapping[str, str],
) -> None:
    ignored = re.compile("|".join((r"lm_head\.weight", *architecture.ignored)))
    known = set(names.values())
    for name in tensors:
        if name not in known and not ignored.fullmatch(name):
            raise ModelFileError(
                f"Model folder '{path}': tensor {name!r} is not part of a supported "
                f"{architecture.name} model"
            )


def _lookup(
    path: Path, architecture: Architecture, settings: Json
) -> Callable[[str], tuple[str, object]]:
    text = settings.get("text_config")  # a model that also sees: the part that speaks
    own: Json = {**settings, **text} if isinstance(text, Mapping) else settings
    own = {**architecture.folder_defaults, **own}
    rope, rope_of_windows = _rope(own)
    merged: Json = {**own, **rope}
    pooling = read_pooling(path)

    def lookup(name: str) -> tuple[str, object]:
        if name == "pooling_type":
            return POOLING_FILE, pooling
        if name in _WINDOW_KEYS and _WINDOW_KEYS[name] in rope_of_windows:
            return f"rope_parameters.{WINDOWED}", rope_of_windows[_WINDOW_KEYS[name]]
        keys = _KEYS.get(name, (name,))
        key = next((key for key in keys if merged.get(key) is not None), keys[0])
        return key, merged.get(key)

    return lookup


def _rope(settings: Json) -> tuple[Json, Json]:
    """The settings of the rotation, of full layers and of those with a window: they were top-level
    and `rope_scaling` once, and are `rope_parameters` since transformers 5."""
    found = settings.get("rope_parameters") or settings.get("rope_scaling")
    if not isinstance(found, Mapping):
        return {}, {}
    full, windowed = found.get(FULL), found.get(WINDOWED)
    if isinstance(full, Mapping):
        return full, windowed if isinstance(windowed, Mapping) else {}
    return found, {}

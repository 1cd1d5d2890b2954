"""Reads a model's configuration from a GGUF file."""

from dataclasses import replace

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.architectures.description import Architecture
from tokenworks.inference.models.architectures.reading import read_config
from tokenworks.inference.models.architectures.registry import ARCHITECTURES, of_gguf
from tokenworks.inference.models.architectures.values import Values, shown
from tokenworks.inference.models.checks import check_tensors
from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.gguf import GGUF
from tokenworks.inference.models.gguf_values import LazyArray


def load_config(gguf: GGUF) -> ModelConfig:
    """The configuration, every key checked and every tensor's presence, shape and type too.

    Raises ModelFileError, naming what is wrong or unsupported.
    """
    architecture = _architecture(gguf)
    prefix = gguf.metadata["general.architecture"]

    def lookup(name: str) -> tuple[str, object]:
        key = f"{prefix}.{name}"
        return key, gguf.metadata.get(key)

    def shape_of(name: str) -> tuple[int, ...] | None:
        info = gguf.tensors.get(name)
        return info.shape if info else None

    values = Values(gguf.path, lookup)
    name = str(gguf.metadata.get("general.name", gguf.path.stem))
    config = read_config(architecture, values, name=name, shape_of=shape_of)
    _check_vocabulary(gguf, values, config)
    config = replace(config, rope_interleaved=architecture.interleaved_in_gguf)
    check_tensors(gguf.path, gguf.tensors, config)
    return config


def _architecture(gguf: GGUF) -> Architecture:
    name = gguf.metadata.get("general.architecture")
    if not isinstance(name, str):
        what = "missing" if name is None else f"{shown(name)}, not text"
        raise ModelFileError(f"Model file '{gguf.path}': metadata 'general.architecture' is {what}")
    architecture = of_gguf(name)
    if architecture is None:
        supported = ", ".join(known.gguf for known in ARCHITECTURES if known.gguf)
        raise ModelFileError(
            f"Model file '{gguf.path}': architecture {shown(name)} is not supported",
            hint=f"supported architectures: {supported}",
        )
    return architecture


def _check_vocabulary(gguf: GGUF, values: Values, config: ModelConfig) -> None:
    rows = config.vocabulary
    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    named = len(tokens) if isinstance(tokens, LazyArray) else rows
    stated = values.size("vocab_size", default=rows)
    if not rows == named == stated:
        raise values.error(
            f"vocabulary sizes differ: {rows} embeddings, {named} tokens, {stated} stated"
        )

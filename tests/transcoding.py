"""Writes an opened model as GGUF, as llama.cpp's converter does."""

from pathlib import Path

import numpy as np

from tokenworks.inference.models.gguf_writer import EncodedTensor, write_gguf
from tokenworks.inference.models.model import Model
from tokenworks.inference.models.quantisation import quantise
from tokenworks.inference.models.random_model import config_metadata
from tokenworks.inference.models.tensors import TensorType


def write_as_gguf(model: Model, path: Path, type: TensorType = TensorType.F32) -> None:
    """Matrices in `type`; whole norm weights; Llama's rotated pairs as neighbours."""
    tensors = []
    for name, info in model.tensors.items():
        if name.endswith("_norm.weight"):
            values = model.norm(name.removesuffix(".weight"))
        else:
            values = model.float32(name)
        if model.config.architecture == "llama" and (".attn_q." in name or ".attn_k." in name):
            halves = values.reshape(-1, 2, model.config.head_dim // 2, *info.shape[1:])
            values = halves.swapaxes(1, 2).reshape(info.shape)
        plain = len(info.shape) == 1 or name in ("position_embd.weight", "token_types.weight")
        stored = TensorType.F32 if plain else type
        raw = quantise(np.ascontiguousarray(values), stored)
        tensors.append(EncodedTensor(name, stored, info.shape, raw))
    write_gguf(path, config_metadata(model.config), tensors)

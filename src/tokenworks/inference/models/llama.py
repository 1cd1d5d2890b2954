"""Llama-family models: their configuration and weights, checked against each other.

Weights follow GGUF. The rows of `attn_q` and `attn_k` are permuted for interleaved ("norm") RoPE:
within a head, elements 2i and 2i+1 form the pair that frequency i rotates. (The original
checkpoints, and transformers, pair i with i + rope_dim/2 instead.)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.models.gguf import GGUF, read_gguf
from tokenworks.inference.models.llama_config import ModelConfig, load_config
from tokenworks.inference.models.quantisation import dequantise
from tokenworks.inference.models.tensors import TensorType

__all__ = ["Model", "ModelConfig", "TensorType", "load_config", "load_model"]


@dataclass(frozen=True, slots=True)
class Model:
    """A checked model file: every tensor that `config` calls for is there in the right shape.

    Names: `token_embd.weight` [vocabulary, hidden], `output_norm.weight` [hidden],
    `output.weight` [vocabulary, hidden] unless `config.tied_embedding`, and for block N
    `blk.N.` + `attn_norm.weight`, `ffn_norm.weight` [hidden]; `attn_q.weight`
    [heads * head_dim, hidden]; `attn_k.weight`, `attn_v.weight` [kv_heads * head_dim, hidden];
    `attn_output.weight` [hidden, heads * head_dim]; `ffn_gate.weight`, `ffn_up.weight`
    [feed_forward, hidden]; `ffn_down.weight` [hidden, feed_forward].
    """

    config: ModelConfig
    gguf: GGUF

    def tensor(self, name: str) -> tuple[TensorType, tuple[int, ...], NDArray[np.uint8]]:
        """Type, shape and bytes (a read-only view into the file) of a tensor."""
        info = self.gguf.tensors[name]
        return info.type, info.shape, self.gguf.raw(name)

    def float32(self, name: str) -> NDArray[np.float32]:
        """The tensor's values in its own shape, a new array."""
        type, shape, raw = self.tensor(name)
        return dequantise(raw, type, shape)

    def output_name(self) -> str:
        """The tensor that turns hidden states into logits."""
        return "token_embd.weight" if self.config.tied_embedding else "output.weight"

    def rope_frequencies(self) -> NDArray[np.float64]:
        """Angle per position of each rotated pair: [rope_dim / 2], scaling included.

        Pair i turns by `rope_theta ** (-2i / rope_dim)`, divided by the linear scaling factor and
        by `rope_freqs.weight[i]` where the file has it (Llama 3.1's scaling).
        """
        config = self.config
        pairs = np.arange(config.rope_dim // 2, dtype=np.float64)
        frequencies = config.rope_theta ** (-2.0 * pairs / config.rope_dim) / config.rope_scale
        if config.has_rope_factors:
            frequencies = frequencies / self.float32("rope_freqs.weight")
        return np.asarray(frequencies, dtype=np.float64)

    def close(self) -> None:
        """Let go of the file; views that are still held stay valid."""
        self.gguf.close()


def load_model(path: Path) -> Model:
    """Open and check a model file. Raises ModelFileError, naming what is wrong or unsupported."""
    gguf = read_gguf(path)
    return Model(load_config(gguf), gguf)

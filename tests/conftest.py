"""What every area's tests may use: a model small enough to be written and run in a moment."""

from pathlib import Path

import numpy as np
import pytest

from tokenworks.inference.models.gguf_writer import EncodedTensor, Writable, write_gguf
from tokenworks.inference.models.llama_config import ModelConfig, expected_tensors
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.text.vocabulary import TokenKind, byte_alphabet

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_MERGES = ("t h", "th e", "i n", "a n", "an d", "Ġ the")
_ALPHABET = byte_alphabet()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of random weights (two layers, 1,024 tokens of context) that writes mostly ASCII."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_tiny_model(path)
    return path


def write_tiny_model(path: Path, *, seed: int = 0) -> ModelConfig:
    """Write the file of `tiny_model`: untied F32 weights, byte-level tokens and a chat template."""
    tokens = [*_CONTROL, *_ALPHABET, *(merge.replace(" ", "") for merge in _MERGES)]
    config = ModelConfig(
        name="tiny",
        architecture="llama",
        layers=2,
        hidden=64,
        heads=4,
        kv_heads=2,
        head_dim=16,
        feed_forward=96,
        vocabulary=len(tokens),
        context_length=1024,
        rms_eps=1e-5,
        rope_theta=10_000.0,
        rope_dim=16,
    )
    write_gguf(path, _metadata(config, tokens), _tensors(config, seed))
    return config


def _metadata(config: ModelConfig, tokens: list[str]) -> dict[str, Writable]:
    kinds = np.full(len(tokens), TokenKind.NORMAL, np.int32)
    kinds[: len(_CONTROL)] = TokenKind.CONTROL
    return {
        "general.architecture": config.architecture,
        "general.name": config.name,
        "llama.block_count": config.layers,
        "llama.embedding_length": config.hidden,
        "llama.feed_forward_length": config.feed_forward,
        "llama.attention.head_count": config.heads,
        "llama.attention.head_count_kv": config.kv_heads,
        "llama.attention.layer_norm_rms_epsilon": config.rms_eps,
        "llama.context_length": config.context_length,
        "llama.rope.freq_base": config.rope_theta,
        "llama.rope.dimension_count": config.rope_dim,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": list(_MERGES),
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def _tensors(config: ModelConfig, seed: int) -> list[EncodedTensor]:
    random = np.random.default_rng(seed)
    tensors = []
    for name, shape, _ in expected_tensors(config):
        values = np.ones(shape) if len(shape) == 1 else random.normal(0, 0.2, shape)
        if name == "output.weight":
            # Rows of printable ASCII stand out, so that answers look like text, not like bytes.
            printable = np.arange(len(_CONTROL), len(_CONTROL) + 94)
            values[np.setdiff1d(np.arange(config.vocabulary), printable)] *= 0.5
        raw = values.astype(np.float32).reshape(-1).view(np.uint8)
        tensors.append(EncodedTensor(name, TensorType.F32, shape, raw))
    return tensors

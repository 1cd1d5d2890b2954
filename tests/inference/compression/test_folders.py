"""Folders in Hugging Face's layout are compressed by way of a GGUF form of theirs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamacpp import likeliest
from tokenworks.errors import ModelError
from tokenworks.inference.compression.compressing import open_compression
from tokenworks.inference.compression.plan import for_bits
from tokenworks.inference.compression.source import as_gguf
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.quality import (
    Gate,
    calibration_text,
    log_softmax,
    pages_of,
    window_logits,
)
from tokenworks.inference.text.open import open_codec
from trained_tokenizers import CORPUS, save_folder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXT = calibration_text()[:3000]
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", {"tie_word_embeddings": True}),
    "llama 3.1, biases": (
        *("LlamaForCausalLM", "LlamaConfig"),
        {"rope_parameters": LLAMA3, "attention_bias": True},
    ),
    "mistral": ("MistralForCausalLM", "MistralConfig", {"sliding_window": None}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {"head_dim": 32}),
    "gemma3": (
        *("Gemma3ForCausalLM", "Gemma3TextConfig"),
        {"head_dim": 16, "sliding_window": 32, "query_pre_attn_scalar": 16},
    ),
}


def write_folder(folder: Path, case: str, tokenizer: str = "byte level", **more: object) -> Path:
    """A random model and a trained tokenizer; the embedding has rows that no token names."""
    tokens = len(save_folder(folder, tokenizer, template="{{ messages[0]['content'] }}"))
    model, config, own = CASES[case]
    torch.manual_seed(0)
    settings = getattr(transformers, config)(vocab_size=tokens + 5, **{**SIZES, **own, **more})
    made = getattr(transformers, model)._from_config(settings).to(torch.bfloat16)
    made.save_pretrained(folder)
    return folder


def logits(path: Path, tokens: list[int]) -> np.ndarray:
    executor = ReferenceExecutor(load_model(path))
    executor.allocate(pages_of(tokens))
    return window_logits(executor, tokens)


@pytest.mark.parametrize("case", CASES)
def test_a_folder_s_gguf_form_is_the_same_model(case: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", case)
    tokens = open_codec(folder).prompt(CORPUS[0])

    with as_gguf(folder, TEXT, tmp_path) as file:
        theirs, ours = logits(folder, tokens), logits(file, tokens)
        codec = open_codec(file)
        types = {info.type for info in load_model(file).tensors.values()}

    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert types == {TensorType.BF16, TensorType.F32}
    assert codec.chat([{"role": "user", "content": "Hi 12"}]) == codec.encode("Hi 12")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("case", ["llama 3.1, biases", "qwen3", "gemma3"])
def test_a_compressed_folder_is_what_llama_cpp_computes_too(case: str, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="no wheel of llama.cpp for this platform")
    folder, out = write_folder(tmp_path / "folder", case), tmp_path / "out.gguf"
    with open_compression(folder, TEXT, tmp_path) as compression:
        plan = compression.fixed(for_bits(TensorType.Q8_0))
        result = compression.write(out, plan, gate=Gate(most_kl=0.01, least_agreement=0.9))
    codec = open_codec(out)
    tokens = codec.prompt("over the lazy dog")

    theirs = likeliest(out, [tokens[:end] for end in (5, len(tokens))], codec.encode("x")[-1])

    ours = log_softmax(logits(out, tokens))
    assert result.file_bytes < sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    for mine, place in zip(ours[[4, -1]], theirs, strict=True):
        np.testing.assert_allclose(mine[list(place)], list(place.values()), atol=0.15)


def test_what_a_gguf_file_cannot_say_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", "mistral", sliding_window=32)

    with (
        pytest.raises(ModelError, match="cannot say that windows"),
        as_gguf(folder, TEXT, tmp_path),
    ):
        pass

    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_tokenizer_that_gguf_has_no_name_for_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", "llama", tokenizer="words")

    with (
        pytest.raises(ModelError, match="the same tokens") as caught,
        as_gguf(folder, TEXT, tmp_path),
    ):
        pass

    assert "GGUF file of the same model" in str(caught.value.hint)


def test_a_sentencepiece_file_is_said_with_its_scores(tmp_path: Path) -> None:
    """As Llama 2's and Mistral's folders have it."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = write_folder(tmp_path / "folder", "llama")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 5),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )

    with as_gguf(folder, TEXT, tmp_path) as file:
        ours, theirs = open_codec(file), open_codec(folder)

    assert ours.prompt(CORPUS[1]) == theirs.prompt(CORPUS[1])
    assert ours.bos == theirs.bos
    assert ours.stop_tokens == theirs.stop_tokens

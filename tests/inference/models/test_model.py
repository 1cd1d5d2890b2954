"""Loading a GGUF model: the configuration and the tensors are held to each other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.architectures.registry import ARCHITECTURES
from tokenworks.inference.models.config import ModelConfig, expected_tensors
from tokenworks.inference.models.gguf_writer import EncodedTensor, Writable, write_gguf
from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.models.quantisation import ENCODED, quantise
from tokenworks.inference.models.random_model import (
    TINY_CONFIG,
    config_metadata,
    tiny_config,
    write_random_model,
)
from tokenworks.inference.models.tensors import TensorType

CONFIG = replace(TINY_CONFIG, norm_epsilon=2.0**-16)
Change = Callable[[dict[str, Writable], dict[str, EncodedTensor]], object]


def zeros(name: str, shape: tuple[int, ...], type: TensorType = TensorType.F32) -> EncodedTensor:
    return EncodedTensor(name, type, shape, np.zeros(type.nbytes(shape), np.uint8))


def load(folder: Path, change: Change, config: ModelConfig = CONFIG) -> Model:
    """A model of zeros, changed before it is written."""
    metadata = config_metadata(config)
    tensors = {name: zeros(name, shape) for name, shape, _ in expected_tensors(config)}
    change(metadata, tensors)
    write_gguf(folder / "model.gguf", metadata, tensors.values())
    return load_model(folder / "model.gguf")


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, tied_embedding=False, has_rope_factors=True),
        replace(CONFIG, head_dim=32, rope_dim=8, rope_scale=4.0, kv_heads=1),
        *(tiny_config(family) for family in ARCHITECTURES if family.gguf),
    ],
    ids=lambda config: config.name,
)
def test_a_configuration_reads_back_as_it_was_written(tmp_path: Path, config: ModelConfig) -> None:
    write_random_model(tmp_path / "m.gguf", config)

    read = load_model(tmp_path / "m.gguf").config

    assert replace(read, norm_epsilon=0, query_scale=0) == replace(
        config, norm_epsilon=0, query_scale=0
    )
    assert read.norm_epsilon == pytest.approx(config.norm_epsilon)
    assert read.score_scale == pytest.approx(config.score_scale)


def test_optional_metadata_has_the_formats_defaults(tmp_path: Path) -> None:
    optional = (
        *("attention.key_length", "attention.value_length", "attention.head_count_kv"),
        *("vocab_size", "rope.freq_base", "rope.dimension_count"),
    )
    config = replace(CONFIG, kv_heads=CONFIG.heads)

    model = load(tmp_path, lambda keys, _: [keys.pop(f"llama.{name}") for name in optional], config)

    assert model.config == config


@pytest.mark.parametrize("type", ENCODED, ids=lambda type: type.name)
def test_weights_come_decoded_or_as_they_are(tmp_path: Path, type: TensorType) -> None:
    write_random_model(tmp_path / "m.gguf", type=type, seed=7)
    model = load_model(tmp_path / "m.gguf")

    stored, shape, raw = model.tensor("blk.1.ffn_down.weight")

    assert (stored, shape) == (type, (64, 96))
    assert raw.nbytes == type.nbytes(shape)
    values = model.float32("blk.1.ffn_down.weight")
    np.testing.assert_array_equal(quantise(values, type), raw)
    assert 0.05 < values.std() < 0.2


def test_rope_frequencies_fall_by_theta_and_both_scalings(tmp_path: Path) -> None:
    config = replace(CONFIG, rope_dim=8, rope_scale=2.0, rope_theta=16.0, has_rope_factors=True)
    factors = np.array([1, 2, 4, 8], np.float32).view(np.uint8)

    def set_factors(_: object, tensors: dict[str, EncodedTensor]) -> None:
        tensors["rope_freqs.weight"] = EncodedTensor(
            "rope_freqs.weight", TensorType.F32, (4,), factors
        )

    frequencies = load(tmp_path, set_factors, config).rope_frequencies()

    np.testing.assert_allclose(frequencies, [1 / 2, 1 / 8, 1 / 32, 1 / 128])


def test_the_output_is_the_embedding_where_they_are_tied(tmp_path: Path) -> None:
    tied = load(tmp_path, lambda *_: None)
    untied = load(tmp_path, lambda *_: None, replace(CONFIG, tied_embedding=False))

    assert (tied.output_name(), untied.output_name()) == ("token_embd.weight", "output.weight")


def set_key(key: str, value: Writable) -> Change:
    return lambda metadata, _: metadata.update({key: value})


def drop_key(key: str) -> Change:
    return lambda metadata, _: metadata.pop(key)


def set_tensor(tensor: EncodedTensor) -> Change:
    return lambda _, tensors: tensors.update({tensor.name: tensor})


WRONG: dict[str, tuple[Change, str]] = {
    "no architecture": (drop_key("general.architecture"), "'general.architecture' is missing"),
    "architecture": (set_key("general.architecture", "mamba"), "'mamba' is not supported"),
    "long architecture": (set_key("general.architecture", "a" * 9999), "aaa is not supported"),
    "no key": (drop_key("llama.block_count"), "'llama.block_count' is missing"),
    "zero": (set_key("llama.block_count", 0), "is 0, not a whole number from 1 to"),
    "large": (set_key("llama.context_length", 2**31), "not a whole number from 1 to 2147483647"),
    "text": (set_key("llama.context_length", "long"), "is 'long', not a whole number"),
    "boolean": (set_key("llama.context_length", True), "is True, not a whole number"),
    "not finite": (
        set_key("llama.attention.layer_norm_rms_epsilon", float("nan")),
        "is nan, not a positive number",
    ),
    "heads": (set_key("llama.attention.head_count_kv", 3), "cannot share 3"),
    "head size": (set_key("llama.attention.value_length", 8), "values of 8"),
    "rope size": (set_key("llama.rope.dimension_count", 15), "not an even number up to 16"),
    "rope scaling": (set_key("llama.rope.scaling.type", "yarn"), "'yarn' is not supported"),
    "vocabulary": (set_key("llama.vocab_size", 7), "320 embeddings, 320 tokens, 7 stated"),
    "tokens": (set_key("tokenizer.ggml.tokens", ["a", "b"]), "2 tokens"),
    "experts": (set_key("llama.expert_count", 8), "mixture-of-experts"),
    "more layers than tensors": (
        set_key("llama.block_count", 2**31 - 1),
        "'blk.2.attn_q.weight' is missing",
    ),
    "heads larger than tensors": (  # as many angles would be computed
        lambda metadata, _: metadata.update(
            {
                "llama.attention.key_length": 2**31 - 2,
                "llama.attention.value_length": 2**31 - 2,
                "llama.rope.dimension_count": 2**31 - 2,
                "llama.rope.scaling.type": "llama3",
                "llama.rope.scaling.factor": 8.0,
                "llama.rope.scaling.low_freq_factor": 1.0,
                "llama.rope.scaling.high_freq_factor": 4.0,
                "llama.rope.scaling.original_context_length": 64,
            }
        ),
        r"'blk.0.attn_q.weight' has shape \[64, 64\], not \[8589934584, 64\]",
    ),
    "rope scaling of no type": (
        set_key("llama.rope.scaling.factor", 4.0),
        r"scaling of no said type is not supported \(llama.rope.scaling.factor 4.0\)",
    ),
    "rope scaling as it was": (
        set_key("llama.rope.scale_linear", 2.0),
        r"an old way to scale positions is not supported \(llama.rope.scale_linear 2.0\)",
    ),
    "a scaled rotation": (
        set_key("llama.rope.scaling.attn_factor", 1.5),
        r"a scale of rotated queries and keys is not supported",
    ),
    "not causal": (set_key("llama.attention.causal", False), "llama.attention.causal is not true"),
    "no tensor": (
        lambda _, tensors: tensors.pop("blk.1.ffn_up.weight"),
        "'blk.1.ffn_up.weight' is missing",
    ),
    "no embedding": (
        lambda _, tensors: tensors.pop("token_embd.weight"),
        "'token_embd.weight' is missing",
    ),
    "shape": (
        set_tensor(zeros("blk.0.ffn_down.weight", (96, 64))),
        r"shape \[96, 64\], not \[64, 96\]",
    ),
    "type": (
        set_tensor(zeros("output_norm.weight", (64,), TensorType.Q8_0)),
        "type Q8_0, which is not supported for it",
    ),
    "bias": (
        set_tensor(zeros("blk.0.attn_q.bias", (64,))),
        "'blk.0.attn_k.bias' is missing",
    ),
    "stranger": (
        set_tensor(zeros("blk.0.attn_sinks.weight", (4,))),
        "'blk.0.attn_sinks.weight' is not part of a supported llama model",
    ),
    "capped scores": (set_key("llama.attn_logit_softcapping", 50.0), "capping of attention"),
}


@pytest.mark.parametrize(("change", "problem"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_model_is_refused_by_name(tmp_path: Path, change: Change, problem: str) -> None:
    with pytest.raises(ModelFileError, match=problem) as refusal:
        load(tmp_path, change)

    assert len(refusal.value.message) < 400


def test_scales_of_one_change_nothing(tmp_path: Path) -> None:
    ones = dict.fromkeys(
        ("rope.scaling.factor", "rope.scale_linear", "rope.scaling.attn_factor"), 1.0
    )
    said = {"attention.causal": True, **ones}

    model = load(
        tmp_path, lambda keys, _: keys.update({f"llama.{name}": said[name] for name in said})
    )

    assert model.config == CONFIG


def test_the_architecture_error_names_what_is_supported(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as refusal:
        load(tmp_path, set_key("general.architecture", "mamba"))

    assert refusal.value.hint == "supported architectures: llama, qwen2, qwen3, gemma3, bert"

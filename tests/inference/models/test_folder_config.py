"""A folder's config.json and the names of its tensors: what is read, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.folder_config import load_folder_config
from tokenworks.inference.models.tensors import TensorInfo, TensorType

Shapes = dict[str, tuple[int, ...]]

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000,
    "hidden_act": "silu",
}
GEMMA: dict[str, Any] = {
    "model_type": "gemma3_text",
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 7,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "sliding_window": 5,
}


def llama_shapes(layers: int = 2, root: str = "model.") -> Shapes:
    shapes: Shapes = {f"{root}embed_tokens.weight": (32, 16), f"{root}norm.weight": (16,)}
    for layer in range(layers):
        block = f"{root}layers.{layer}."
        shapes |= {
            f"{block}input_layernorm.weight": (16,),
            f"{block}post_attention_layernorm.weight": (16,),
            f"{block}self_attn.q_proj.weight": (16, 16),
            f"{block}self_attn.k_proj.weight": (8, 16),
            f"{block}self_attn.v_proj.weight": (8, 16),
            f"{block}self_attn.o_proj.weight": (16, 16),
            f"{block}mlp.gate_proj.weight": (24, 16),
            f"{block}mlp.up_proj.weight": (24, 16),
            f"{block}mlp.down_proj.weight": (16, 24),
        }
    return shapes


def gemma_shapes(root: str = "model.") -> Shapes:
    shapes = llama_shapes(7, root)
    for layer in range(7):
        block = f"{root}layers.{layer}."
        shapes |= {
            f"{block}pre_feedforward_layernorm.weight": (16,),
            f"{block}post_feedforward_layernorm.weight": (16,),
            f"{block}self_attn.q_norm.weight": (8,),
            f"{block}self_attn.k_norm.weight": (8,),
        }
    return shapes


def test_a_dtype_that_is_not_read_matters_only_where_the_model_needs_it() -> None:
    path, shapes = Path("some"), llama_shapes()
    type = TensorType.BF16
    tensors = {name: TensorInfo(name, type, shape, 0, 0) for name, shape in shapes.items()}
    load_folder_config(path, LLAMA, tensors, {"model.some_mask": "BOOL"})
    needed = "model.layers.1.mlp.up_proj.weight"
    del tensors[needed]

    with pytest.raises(ModelFileError, match=f"'{needed}' has type F8_E4M3") as refusal:
        load_folder_config(path, LLAMA, tensors, {needed: "F8_E4M3"})

    assert refusal.value.hint == "supported types in safetensors: F32, F16, BF16"


def load(
    settings: dict[str, Any], shapes: Shapes, path: Path = Path("/models/some")
) -> tuple[ModelConfig, dict[str, str]]:
    tensors = {
        name: TensorInfo(name, TensorType.BF16, shape, 0, TensorType.BF16.nbytes(shape))
        for name, shape in shapes.items()
    }
    return load_folder_config(path, settings, tensors)


def test_a_folder_without_a_head_is_tied() -> None:
    config, names = load(LLAMA, llama_shapes())

    assert (config.name, config.architecture, config.rope_theta) == ("some", "llama", 500_000.0)
    assert config.tied_embedding
    assert not config.rope_interleaved
    assert names["blk.1.ffn_down.weight"] == "model.layers.1.mlp.down_proj.weight"


def test_a_head_counts_unless_it_is_said_to_be_tied() -> None:
    shapes = {**llama_shapes(), "lm_head.weight": (32, 16)}

    untied, names = load(LLAMA, shapes)
    tied, tied_names = load({**LLAMA, "tie_word_embeddings": True}, shapes)

    assert not untied.tied_embedding
    assert names["output.weight"] == "lm_head.weight"
    assert tied.tied_embedding
    assert "output.weight" not in tied_names


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 4.0}},
    ],
    ids=["before transformers 5", "since"],
)
def test_both_spellings_of_the_rotation_are_read(settings: dict[str, Any]) -> None:
    config, _ = load({**LLAMA, **settings}, llama_shapes())

    assert (config.rope_theta, config.rope_scale) == (1e4, 4.0)


def test_a_model_saved_without_its_head_has_shorter_names() -> None:
    _, names = load(LLAMA, llama_shapes(root=""))

    assert names["token_embd.weight"] == "embed_tokens.weight"


def test_transformers_defaults_hold_where_a_folder_is_silent() -> None:
    """Of settings that change what is computed."""
    mistral = {**LLAMA, "model_type": "mistral"}
    silent, _ = load(mistral, llama_shapes())
    without, _ = load({**mistral, "sliding_window": None}, llama_shapes())

    assert (silent.windows, without.windows) == ((4096, 4096), ())


def test_all_of_qwens_layers_may_have_windows() -> None:
    qwen = {**LLAMA, "model_type": "qwen3", "use_sliding_window": True}
    shapes = llama_shapes()
    for layer in range(2):
        for name in ("q_norm", "k_norm"):
            shapes[f"model.layers.{layer}.self_attn.{name}.weight"] = (8,)

    config, _ = load({**qwen, "sliding_window": 5, "max_window_layers": 0}, shapes)

    assert config.windows == (5, 5)


def test_what_only_encoders_may_not_say_is_nothing_to_a_decoder() -> None:
    assert load({**LLAMA, "is_decoder": True}, llama_shapes())[0].block.causal


def test_gemma_has_its_defaults_and_windows() -> None:
    config, _ = load(GEMMA, gemma_shapes())

    assert config.windows == (5, 5, 5, 5, 5, 0, 5)
    assert (config.rope_theta, config.window_rope_theta) == (1e6, 1e4)
    assert config.score_scale == pytest.approx(256**-0.5)
    assert (config.embedding_scale, config.norm_offset) == (4.0, 1.0)


def test_gemmas_activation_is_not_the_one_its_forebears_named() -> None:
    config, _ = load({**GEMMA, "hidden_act": "gelu"}, gemma_shapes())

    assert config.block.activation == "gelu_tanh"


def test_positions_in_gemmas_windows_are_not_scaled() -> None:
    windowed = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e4}
    rope = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": windowed}

    with pytest.raises(ModelFileError, match=r"sliding_attention 'linear' is not supported"):
        load({**GEMMA, "rope_parameters": rope}, gemma_shapes())


@pytest.mark.parametrize("root", ["model.language_model.", "language_model.model."])
def test_a_gemma_with_eyes_speaks_with_its_text_model(root: str) -> None:
    settings = {"model_type": "gemma3", "text_config": GEMMA, "vision_config": {"hidden_size": 3}}
    shapes = {**gemma_shapes(root), "model.vision_tower.layers.0.weight": (9, 9)}

    config, names = load(settings, shapes)

    assert config.hidden == 16
    assert names["token_embd.weight"] == f"{root}embed_tokens.weight"


ENCODER: dict[str, Any] = {
    **{key: LLAMA[key] for key in ("vocab_size", "hidden_size", "intermediate_size")},
    **{"model_type": "bert", "num_hidden_layers": 1, "num_attention_heads": 2},
    **{"max_position_embeddings": 64, "layer_norm_eps": 1e-12, "hidden_act": "gelu"},
}


def encoder_shapes() -> Shapes:
    block = "encoder.layer.0."
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (32, 16),
        "embeddings.position_embeddings.weight": (64, 16),
        "embeddings.token_type_embeddings.weight": (2, 16),
        "pooler.dense.weight": (16, 16),
    }
    for name, outputs, inputs in (
        ("attention.self.query", 16, 16),
        ("attention.self.key", 16, 16),
        ("attention.self.value", 16, 16),
        ("attention.output.dense", 16, 16),
        ("intermediate.dense", 24, 16),
        ("output.dense", 16, 24),
    ):
        shapes |= {f"{block}{name}.weight": (outputs, inputs), f"{block}{name}.bias": (outputs,)}
    for norm in ("embeddings.", f"{block}attention.output.", f"{block}output."):
        shapes |= {f"{norm}LayerNorm.weight": (16,), f"{norm}LayerNorm.bias": (16,)}
    return shapes


def test_an_encoder_has_no_head() -> None:
    config, _ = load(ENCODER, encoder_shapes())

    assert (config.pooling, config.is_encoder, config.tied_embedding) == ("mean", True, False)


def test_robertas_positions_begin_behind_its_padding() -> None:
    shapes = {**encoder_shapes(), "embeddings.position_embeddings.weight": (9, 16)}
    roberta = {**ENCODER, "model_type": "roberta", "max_position_embeddings": 9}

    for padding, positions in ((0, 8), (1, 7), (7, 1)):
        config, _ = load({**roberta, "pad_token_id": padding}, shapes)
        assert (config.positions, config.context_length) == (positions, positions)
    with pytest.raises(
        ModelFileError, match="begin in row 9, behind pad_token_id, but there are 9"
    ):
        load({**roberta, "pad_token_id": 8}, shapes)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"is_decoder": True}, "an encoder that is used as a decoder is not supported"),
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type 'relative_key' is not supported",
        ),
    ],
)
def test_another_encoder_is_refused(setting: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelFileError, match=problem):
        load({**ENCODER, **setting}, encoder_shapes())


def setting(key: str, value: object) -> Callable[[dict[str, Any], Shapes], object]:
    return lambda settings, _: settings.update({key: value})


WRONG: dict[str, tuple[Callable[[dict[str, Any], Shapes], object], str]] = {
    "another family": (setting("model_type", "mamba"), "model_type 'mamba' is not supported"),
    "no family": (lambda s, _: s.pop("model_type"), "model_type None is not supported"),
    "no key": (lambda s, _: s.pop("hidden_size"), "'hidden_size' is missing"),
    "text": (setting("num_hidden_layers", "two"), "'num_hidden_layers' is 'two', not a whole"),
    "none": (setting("num_hidden_layers", 0), "'num_hidden_layers' is 0, not a whole number"),
    "activation": (setting("hidden_act", "relu"), "hidden_act 'relu' is not supported"),
    "experts": (setting("num_experts", 8), r"mixture-of-experts .* \(num_experts 8\)"),
    "quantised": (
        setting("quantization_config", {"quant_method": "awq"}),
        "a folder of quantised weights is not supported .*awq",
    ),
    "yarn": (
        setting("rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        "rope_type 'yarn' is not supported",
    ),
    "a part of each head": (  # transformers rotates whole heads or fails
        setting("partial_rotary_factor", 0.5),
        r"rotating a part of each head is not supported \(partial_rotary_factor 0.5\)",
    ),
    "no head of its own": (
        setting("tie_word_embeddings", False),
        "tie_word_embeddings is false, but tensor 'output.weight' is missing",
    ),
    "many windows": (
        lambda s, _: s.update({"model_type": "mistral", "num_hidden_layers": 2**31 - 1}),
        "tensor 'blk.2.attn_q.weight' is missing",
    ),
    "wide": (
        lambda s, _: s.update({"model_type": "mistral", "sliding_window": 2**31}),
        "'sliding_window' is 2147483648, not a whole number from 1 to 2147483647",
    ),
    "missing tensor": (
        lambda _, shapes: shapes.pop("model.layers.1.mlp.up_proj.weight"),
        "tensor 'blk.1.ffn_up.weight' is missing",
    ),
    "no embedding": (
        lambda _, shapes: shapes.pop("model.embed_tokens.weight"),
        "tensor 'token_embd.weight' is missing",
    ),
    "shape": (
        lambda _, shapes: shapes.update({"model.layers.0.mlp.up_proj.weight": (16, 24)}),
        r"'blk.0.ffn_up.weight' has shape \[16, 24\], not \[24, 16\]",
    ),
    "stranger": (
        lambda _, shapes: shapes.update({"model.layers.0.self_attn.sinks": (2,)}),
        "tensor 'model.layers.0.self_attn.sinks' is not part of a supported llama model",
    ),
    "a layer too many": (
        lambda _, shapes: shapes.update({"model.layers.2.mlp.up_proj.weight": (24, 16)}),
        "'blk.2.ffn_up.weight' is not part of a supported llama model",
    ),
    "one bias": (
        lambda _, shapes: shapes.update({"model.layers.0.self_attn.q_proj.bias": (16,)}),
        "'blk.0.attn_k.bias' is missing",
    ),
}


@pytest.mark.parametrize(("change", "problem"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_folder_is_refused_by_name(
    change: Callable[[dict[str, Any], Shapes], object], problem: str
) -> None:
    settings, shapes = dict(LLAMA), llama_shapes()
    change(settings, shapes)

    with pytest.raises(ModelFileError, match=problem) as refusal:
        load(settings, shapes)

    assert "\n" not in refusal.value.message


def test_a_list_of_layers_must_fit() -> None:
    types = ["sliding_attention"] * 6
    with pytest.raises(ModelFileError, match="layer_types lists 6 layers, not 7"):
        load({**GEMMA, "layer_types": types}, gemma_shapes())
    with pytest.raises(ModelFileError, match="layer_types 'linear_attention' is not supported"):
        load({**GEMMA, "layer_types": [*types, "linear_attention"]}, gemma_shapes())

"""Model folders in Hugging Face's layout, small enough to be written and loaded in a moment."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "vocab_size": 96,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
INDEX = "model.safetensors.index.json"


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner, half = 32, 64, 16
    yield "model.embed_tokens.weight", (96, hidden)
    for layer in range(2):
        block = f"model.layers.{layer}"
        yield f"{block}.input_layernorm.weight", (hidden,)
        yield f"{block}.self_attn.q_proj.weight", (hidden, hidden)
        yield f"{block}.self_attn.k_proj.weight", (half, hidden)
        yield f"{block}.self_attn.v_proj.weight", (half, hidden)
        yield f"{block}.self_attn.o_proj.weight", (hidden, hidden)
        yield f"{block}.post_attention_layernorm.weight", (hidden,)
        yield f"{block}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{block}.mlp.up_proj.weight", (inner, hidden)
        yield f"{block}.mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (96, hidden)


def write_folder(path: Path, *, shards: int = 1, seed: int = 0, **config: object) -> Path:
    """A Llama of random weights in so many files, with a tokenizer, code and pickles beside."""
    random = np.random.default_rng(seed)
    tensors = {name: random.normal(size=shape).astype("f4") for name, shape in shapes()}
    path.mkdir(parents=True, exist_ok=True)
    if shards == 1:
        save_file(tensors, path / "model.safetensors")
    else:
        placed = {}
        for number in range(shards):
            shard = f"model-{number + 1:05}-of-{shards:05}.safetensors"
            part = {name: tensors[name] for name in list(tensors)[number::shards]}
            save_file(part, path / shard)
            placed |= dict.fromkeys(part, shard)
        (path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    (path / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (path / "tokenizer.json").write_text("{}")
    (path / "1_Pooling").mkdir(exist_ok=True)
    (path / "1_Pooling" / "config.json").write_text("{}")
    (path / "pytorch_model.bin").write_bytes(b"\x80\x04 a pickle")
    (path / "modeling.py").write_text("raise SystemExit(3)")
    (path / "README.md").write_text("# A model")
    return path


TAKEN = ["1_Pooling/config.json", "config.json", "tokenizer.json"]
"""What of such a folder is taken beside its weights."""


def names_below(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in found)

"""Loading a model takes the memory of the packed weights and hardly more."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import model_folders
from blocks import some_tensor
from tokenworks.inference.executors.base import Batch, Span
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.models.config import expected_tensors
from tokenworks.inference.models.gguf_writer import EncodedTensor, write_gguf
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.random_model import TINY_CONFIG, config_metadata
from tokenworks.inference.models.tensors import TensorType

# Most of it is one tensor, which is embedding and head: no small part of the whole at any time.
CONFIG = replace(TINY_CONFIG, layers=1, hidden=512, feed_forward=1024, vocabulary=60_000)

LOAD = """
import json, sys
from pathlib import Path
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.models.model import load_model

def memory(key):
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index(key) + 1]) << 10

before = memory("VmRSS:")
executor = NativeExecutor(load_model(Path(sys.argv[1])), isa="auto", threads=2, context_length=0)
final, peak = memory("VmRSS:"), memory("VmHWM:")
print(json.dumps([final - before, peak - before, executor.weight_bytes]))
"""


def write_model(path: Path, type: TensorType) -> None:
    tensors = []
    for name, shape, _ in expected_tensors(CONFIG):
        stored = TensorType.F32 if len(shape) == 1 or shape[-1] % type.block_weights else type
        tile = some_tensor(stored, (1, *shape[-1:]))
        tensors.append(EncodedTensor(name, stored, shape, np.resize(tile, stored.nbytes(shape))))
    write_gguf(path, config_metadata(CONFIG), tensors)


def write_folder(path: Path) -> None:
    """The same as safetensors. Zeros, since what is in weights makes no difference to memory."""
    width, inner, rows = CONFIG.hidden, CONFIG.feed_forward, CONFIG.vocabulary
    block = "model.layers.0"
    shapes = {
        "model.embed_tokens.weight": (rows, width),
        **{f"{block}.self_attn.{name}_proj.weight": (width, width) for name in "qkvo"},
        **{f"{block}.mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")},
        f"{block}.mlp.down_proj.weight": (width, inner),
        f"{block}.input_layernorm.weight": (width,),
        f"{block}.post_attention_layernorm.weight": (width,),
        "model.norm.weight": (width,),
    }
    path.mkdir()
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    save_file(tensors, path / "model.safetensors")
    config = {
        **model_folders.CONFIG,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": 1,
        "num_key_value_heads": 2,
        "vocab_size": rows,
        "tie_word_embeddings": True,
    }
    (path / "config.json").write_text(json.dumps(config))


def memory_of_loading(path: Path) -> tuple[int, int, int]:
    """Bytes that are resident after loading, at most while loading, and of the packed weights; the
    first two without what the process had before."""
    run = subprocess.run([sys.executable, "-c", LOAD, path], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    final, peak, weights = json.loads(run.stdout)
    return final, peak, weights


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
@pytest.mark.parametrize("name", ["F32", "BF16", "Q8_0", "Q6_K", "Q4_K", "Q2_K"])
def test_memory_while_loading_stays_near_what_the_weights_take(tmp_path: Path, name: str) -> None:
    """Of all that is resident, pages of the mapped file included."""
    path = tmp_path / "model.gguf"
    write_model(path, TensorType[name])

    final, peak, weights = memory_of_loading(path)

    assert weights <= final <= 1.2 * weights
    assert peak <= 1.3 * final


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_so_does_memory_while_a_folder_loads(tmp_path: Path) -> None:
    write_folder(tmp_path / "model")

    final, peak, weights = memory_of_loading(tmp_path / "model")

    assert weights <= final <= 1.2 * weights
    assert peak <= 1.3 * final


def test_the_embedding_is_still_read_after_its_memory_was_given_back(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_model(path, TensorType.Q6_K)
    model = load_model(path)
    executor = NativeExecutor(model, isa="auto", threads=2, context_length=0)
    executor.allocate(1)
    batch = Batch(
        tokens=np.array([1, 59_999], np.int32),
        spans=(Span(start=0, length=2, pages=np.array([0], np.int32)),),
        logit_rows=np.array([0, 1], np.int32),
    )
    logits = executor.forward(batch).copy()
    for name, info in model.tensors.items():
        model.release(name, 0, info.nbytes)

    assert np.isfinite(logits).all()
    assert logits.any()
    assert (executor.forward(batch) == logits).all()

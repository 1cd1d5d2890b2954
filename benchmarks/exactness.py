"""Every family of models against `transformers` on random weights, and what each format costs."""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROOT
from numpy.typing import NDArray

from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Span
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.models.quantisation import ENCODED

sys.path.insert(0, str(ROOT / "tests"))
from transcoding import write_as_gguf

TOKENS = 96
EXACT = 1e-4
SIZES: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
DECODER = {**SIZES, "num_key_value_heads": 2, "head_dim": 64}
WINDOW = {"sliding_window": 32}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", DECODER),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**DECODER, **WINDOW}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", DECODER),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", DECODER),
    "gemma3": (
        *("Gemma3ForCausalLM", "Gemma3TextConfig"),
        {**DECODER, **WINDOW, "query_pre_attn_scalar": 64},
    ),
    "bert": ("BertModel", "BertConfig", SIZES),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaConfig", SIZES),
}
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Exactness:
    """Largest difference of the reference executor's float32 logits (an encoder's hidden states)
    from those of transformers; by weight format, the root mean square error of the kernels relative
    to transformers in float32, rounding of the weights included."""

    worst: float
    formats: dict[str, float]

    @property
    def exact(self) -> bool:
        return self.worst <= EXACT


def measure(family: str) -> Exactness:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model_class, config_class, settings = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**settings, initializer_range=0.05)
    theirs = getattr(transformers, model_class)._from_config(config).eval()
    for weight in theirs.parameters():
        if weight.dim() == 1:  # norms and biases, which a new model has at 0 and 1
            weight.data += 0.2 * torch.randn_like(weight)
    tokens = np.random.default_rng(0).integers(2, SIZES["vocab_size"], TOKENS).astype(np.int32)
    with torch.no_grad():
        answer = theirs(torch.tensor(tokens[None].astype(np.int64)))
    expected = (answer.logits if "logits" in answer else answer.last_hidden_state)[0].numpy()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs.save_pretrained(folder / "folder")
        model = load_model(folder / "folder")
        worst = float(np.abs(_output(ReferenceExecutor(model), model, tokens) - expected).max())
        formats = {"F32 folder": _relative(_native(model, tokens), expected)}
        if model.config.architecture in ("llama", "qwen2", "qwen3", "gemma3", "bert"):
            for type in ENCODED:
                write_as_gguf(model, folder / "model.gguf", type)
                same = load_model(folder / "model.gguf")
                formats[type.name] = _relative(_native(same, tokens), expected)
    return Exactness(worst, formats)


def _native(model: Model, tokens: NDArray[np.int32]) -> Floats:
    return _output(NativeExecutor(model, isa="auto", threads=2, context_length=0), model, tokens)


def _output(
    executor: NativeExecutor | ReferenceExecutor, model: Model, tokens: NDArray[np.int32]
) -> Floats:
    pages = -(-len(tokens) // PAGE_TOKENS)
    executor.allocate(pages)
    batch = Batch(
        tokens=tokens,
        spans=(Span(start=0, length=len(tokens), pages=np.arange(pages, dtype=np.int32)),),
        logit_rows=np.arange(len(tokens), dtype=np.int32),
    )
    run: Callable[[Batch], Floats] = (
        executor.encode if model.config.is_encoder else executor.forward
    )
    return run(batch).copy()


def _relative(actual: Floats, expected: Floats) -> float:
    return float(np.sqrt(np.mean((actual - expected) ** 2) / np.mean(expected**2)))

"""Every family of models, held to transformers on random weights, by folder and by GGUF."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenworks.inference.executors.base import Batch, Span
from tokenworks.inference.executors.native import NativeExecutor, supported_paths
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.architectures.registry import ARCHITECTURES
from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.models.packing import footprint_of
from tokenworks.inference.models.random_model import (
    tiny_config,
    write_random_model,
)
from tokenworks.inference.models.tensors import TensorType
from transcoding import write_as_gguf

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

Array = NDArray[np.float32]
TOKENS = 70  # more than any window below
VOCABULARY = 131
# Rows are no multiple of 32: the kernels then keep bfloat16 weights and float activations as they
# are, and what is left between them and the truth is float16 in the KV store.
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 7,
    "num_attention_heads": 3,
    "max_position_embeddings": 128,
}
DECODER = {**SIZES, "num_key_value_heads": 1}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", {**DECODER, "head_dim": 16}),
    "llama 3.1, biases": (
        *("LlamaForCausalLM", "LlamaConfig"),
        {**DECODER, "head_dim": 16, "rope_parameters": LLAMA3, "attention_bias": True},
    ),
    "linear scaling, tied": (
        *("LlamaForCausalLM", "LlamaConfig"),
        {
            **DECODER,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
            "tie_word_embeddings": True,
        },
    ),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**DECODER, "sliding_window": 20}),
    "mistral without a window": (
        *("MistralForCausalLM", "MistralConfig"),
        {**DECODER, "sliding_window": None},
    ),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {**DECODER, "tie_word_embeddings": True}),
    "qwen2 with windows": (
        *("Qwen2ForCausalLM", "Qwen2Config"),
        {**DECODER, "use_sliding_window": True, "sliding_window": 20, "max_window_layers": 3},
    ),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**DECODER, "head_dim": 16}),
    "gemma3": (
        *("Gemma3ForCausalLM", "Gemma3TextConfig"),
        {**DECODER, "head_dim": 16, "sliding_window": 20, "query_pre_attn_scalar": 16},
    ),
    "gemma3 with rarer windows and scaled positions": (
        *("Gemma3ForCausalLM", "Gemma3TextConfig"),
        {
            **DECODER,
            "head_dim": 16,
            "sliding_window": 20,
            "query_pre_attn_scalar": 24,
            "layer_types": ["sliding_attention", "full_attention", *["sliding_attention"] * 5],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "bert": ("BertModel", "BertConfig", SIZES),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaConfig", SIZES),
}


class Theirs:
    """A random model of transformers, its weights bfloat16 numbers, saved as a folder."""

    def __init__(self, folder: Path, case: str) -> None:
        model, config, settings = CASES[case]
        torch.manual_seed(0)
        self.model = getattr(transformers, model)._from_config(
            getattr(transformers, config)(**settings, initializer_range=0.1),
            attn_implementation="eager",
        )
        for name, weight in self.model.named_parameters():
            if "bias" in name:
                torch.nn.init.normal_(weight, 0, 0.3)
            elif weight.dim() == 1:
                torch.nn.init.uniform_(weight, -0.4, 0.4) if "gemma" in case else (
                    torch.nn.init.uniform_(weight, 0.6, 1.4)
                )
            weight.data = weight.data.bfloat16().float()
        self.model = self.model.float().eval()
        self.folder = folder
        self.model.save_pretrained(folder)

    def output(self, tokens: Array) -> Array:
        with torch.no_grad():
            answer = self.model(torch.tensor(tokens[None].astype(np.int64)))
        states = answer.logits if hasattr(answer, "logits") else answer.last_hidden_state
        return np.asarray(states[0].numpy(), np.float32)


@pytest.fixture(scope="module", params=CASES)
def theirs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    return Theirs(tmp_path_factory.mktemp("folder"), request.param)


def some_tokens(count: int = TOKENS, seed: int = 0) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(2, VOCABULARY, count).astype(np.int32)


def output(
    executor: NativeExecutor | ReferenceExecutor,
    model: Model,
    tokens: NDArray[np.int32],
    chunks: tuple[int, ...] = (),
) -> Array:
    """Logits of every token, or the hidden states that an encoder makes of them."""
    pages = np.arange(-(-len(tokens) // 16), dtype=np.int32)[::-1].copy()
    ends = [*np.cumsum(chunks).tolist(), len(tokens)] if chunks else [len(tokens)]
    parts, start = [], 0
    for end in ends:
        length = end - start
        batch = Batch(
            tokens=tokens[start:end],
            spans=(Span(start=start, length=length, pages=pages),),
            logit_rows=np.arange(length, dtype=np.int32),
        )
        run = executor.encode if model.config.is_encoder else executor.forward
        parts.append(run(batch).copy())
        start = end
    return np.concatenate(parts)


def reference(model: Model) -> ReferenceExecutor:
    executor = ReferenceExecutor(model)
    executor.allocate(8)
    return executor


def native(model: Model, isa: str = "auto", threads: int = 2) -> NativeExecutor:
    executor = NativeExecutor(model, isa=isa, threads=threads, context_length=0)
    executor.allocate(8)
    return executor


def distance(actual: Array, expected: Array) -> float:
    """Root mean square of the difference, relative to what was expected."""
    return float(np.sqrt(np.mean((actual - expected) ** 2) / np.mean(expected**2)))


def test_the_reference_matches_transformers(theirs: Theirs) -> None:
    expected = theirs.output(some_tokens())
    assert np.abs(expected).max() > 1  # a comparison of zeros would prove nothing

    model = load_model(theirs.folder)

    actual = output(reference(model), model, some_tokens())
    np.testing.assert_allclose(actual, expected, atol=1e-4, rtol=1e-4)


def test_the_native_executor_matches_transformers(theirs: Theirs) -> None:
    expected = theirs.output(some_tokens())
    model = load_model(theirs.folder)

    assert distance(output(native(model), model, some_tokens()), expected) < 6e-3


def test_the_bytes_predicted_of_a_folder_are_those_taken(theirs: Theirs) -> None:
    taken = native(load_model(theirs.folder)).weight_bytes

    assert footprint_of(theirs.folder).packed_bytes == taken


@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3", "gemma3", "bert"])
def test_a_gguf_of_the_same_model_matches_transformers(tmp_path: Path, case: str) -> None:
    theirs = Theirs(tmp_path / "folder", case)
    write_as_gguf(load_model(theirs.folder), tmp_path / "same.gguf")

    same = load_model(tmp_path / "same.gguf")

    assert same.config.rope_interleaved is (case == "llama")
    expected = theirs.output(some_tokens())
    for executor in (reference(same), native(same)):
        assert distance(output(executor, same, some_tokens()), expected) < 6e-3
    np.testing.assert_allclose(
        output(reference(same), same, some_tokens()), expected, atol=1e-4, rtol=1e-4
    )


FAMILIES = [family for family in ARCHITECTURES if family.gguf]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
class TestTiny:
    """Random GGUF files in 8 bits, on the kernels alone."""

    @pytest.fixture
    def model(self, family: Any, tmp_path: Path) -> Model:
        write_random_model(tmp_path / "tiny.gguf", tiny_config(family), type=TensorType.Q8_0)
        return load_model(tmp_path / "tiny.gguf")

    def test_every_path_and_number_of_threads_gives_the_same_bits(self, model: Model) -> None:
        expected = output(native(model), model, some_tokens())
        assert distance(expected, output(reference(model), model, some_tokens())) < 0.1

        for isa in supported_paths():
            for threads in (1, 2, 3):
                actual = output(native(model, isa, threads), model, some_tokens())
                if isa == "portable":  # other additions: it has no sixteen lanes
                    assert distance(actual, expected) < 1e-4
                else:
                    np.testing.assert_array_equal(actual, expected)

    def test_no_chunking_changes_a_bit(self, model: Model) -> None:
        if model.config.is_encoder:
            pytest.skip("an encoder computes whole sequences")
        executor, tokens = native(model), some_tokens()
        whole = output(executor, model, tokens)

        for chunks in ((1,) * (TOKENS - 1), (16, 1, 2, 17), (3, 33, 30), (69,)):
            np.testing.assert_array_equal(output(executor, model, tokens, chunks), whole)

    def test_company_changes_nothing(self, model: Model) -> None:
        executor, tokens = native(model), some_tokens(20)
        alone = output(executor, model, tokens)
        other = some_tokens(40, seed=1)
        spans = (
            Span(start=0, length=40, pages=np.array([0, 1, 2], np.int32)),
            Span(start=0, length=20, pages=np.array([4, 3], np.int32)),
        )
        rows = np.arange(60, dtype=np.int32)
        batch = Batch(tokens=np.concatenate([other, tokens]), spans=spans, logit_rows=rows)
        run = executor.encode if model.config.is_encoder else executor.forward

        np.testing.assert_array_equal(run(batch)[40:], alone)

    def test_the_predicted_bytes_are_those_taken(self, model: Model, tmp_path: Path) -> None:
        assert footprint_of(tmp_path / "tiny.gguf").packed_bytes == native(model).weight_bytes


def test_a_decoder_encodes_what_its_head_reads(tmp_path: Path) -> None:
    config = replace(tiny_config(ARCHITECTURES[0]), hidden=48, heads=3, kv_heads=1)
    write_random_model(tmp_path / "tiny.gguf", config, type=TensorType.BF16)
    model = load_model(tmp_path / "tiny.gguf")
    pages = np.arange(2, dtype=np.int32)
    batch = Batch(
        tokens=some_tokens(20),
        spans=(Span(start=0, length=20, pages=pages),),
        logit_rows=np.arange(20, dtype=np.int32),
    )
    for executor in (reference(model), native(model)):
        hidden, logits = executor.encode(batch), executor.forward(batch)
        head = model.float32("token_embd.weight")
        assert distance(hidden @ head.T, logits) < 1e-5

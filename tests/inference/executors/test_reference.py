"""The numpy oracle: held to transformers, and to itself in every chunking and company."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Span
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.gguf_writer import EncodedTensor, write_gguf
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.quantisation import quantise
from tokenworks.inference.models.random_model import config_metadata
from tokenworks.inference.models.tensors import TensorType

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

Array = NDArray[np.float32]

CONFIG = ModelConfig(
    name="oracle",
    architecture="llama",
    layers=3,
    hidden=54,
    heads=6,
    kv_heads=2,
    head_dim=10,
    feed_forward=77,
    vocabulary=131,
    context_length=128,
    norm_epsilon=1e-5,
    rope_theta=10_000.0,
    rope_dim=10,
    rope_interleaved=True,
)
PARTS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class Pair:
    """The same random model in both implementations."""

    def __init__(self, folder: Path, *, tied: bool) -> None:
        torch.manual_seed(0)
        self.theirs = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=CONFIG.vocabulary,
                hidden_size=CONFIG.hidden,
                intermediate_size=CONFIG.feed_forward,
                num_hidden_layers=CONFIG.layers,
                num_attention_heads=CONFIG.heads,
                num_key_value_heads=CONFIG.kv_heads,
                head_dim=CONFIG.head_dim,
                max_position_embeddings=CONFIG.context_length,
                rms_norm_eps=CONFIG.norm_epsilon,
                tie_word_embeddings=tied,
                initializer_range=0.3,
                attn_implementation="eager",
            )
        ).eval()
        for name, weight in self.theirs.named_parameters():
            if "norm" in name:
                torch.nn.init.uniform_(weight, 0.5, 1.5)
        path = folder / "oracle.gguf"
        write_gguf(path, config_metadata(CONFIG), list(self._tensors(tied=tied)))
        self.ours = ReferenceExecutor(load_model(path))
        self.ours.allocate(64)

    def logits(self, tokens: Sequence[int]) -> Array:
        with torch.no_grad():
            logits = self.theirs(torch.tensor([tokens])).logits[0]
        return np.asarray(logits.numpy(), np.float32)

    def _tensors(self, *, tied: bool) -> Iterator[EncodedTensor]:
        state = self.theirs.state_dict()
        names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
        if not tied:
            names["output"] = "lm_head"
        for layer in range(CONFIG.layers):
            for ours, theirs in PARTS.items():
                names[f"blk.{layer}.{ours}"] = f"model.layers.{layer}.{theirs}"
        for ours, theirs in names.items():
            values = state[f"{theirs}.weight"].numpy()
            if ours.endswith("attn_q"):
                values = permuted(values, CONFIG.heads)
            if ours.endswith("attn_k"):
                values = permuted(values, CONFIG.kv_heads)
            raw = quantise(values, TensorType.F32)
            yield EncodedTensor(f"{ours}.weight", TensorType.F32, values.shape, raw)


def permuted(matrix: Array, heads: int) -> Array:
    """As llama.cpp's converter does: pairs (i, i + half) become neighbours (2i, 2i + 1)."""
    half = matrix.shape[0] // heads // 2
    return np.ascontiguousarray(
        matrix.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(matrix.shape)
    )


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("untied"), tied=False)


def random_tokens(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, CONFIG.vocabulary, count).tolist()


def run(executor: ReferenceExecutor, work: list[tuple[list[int], int, int, int]]) -> list[Array]:
    """One forward of (tokens, start, end, first page) for each sequence; all logits of each."""
    tokens: list[int] = []
    spans = []
    for sequence, start, end, first_page in work:
        tokens += sequence[start:end]
        # Pages in descending order: the place of a page must not matter.
        pages = np.arange(first_page + 7, first_page - 1, -1, dtype=np.int32)
        assert len(pages) * PAGE_TOKENS >= end
        spans.append(Span(start=start, length=end - start, pages=pages))
    logits = executor.forward(
        Batch(
            tokens=np.array(tokens, np.int32),
            spans=tuple(spans),
            logit_rows=np.arange(len(tokens), dtype=np.int32),
        )
    )
    ends = np.cumsum([span.length for span in spans])
    return [part.copy() for part in np.split(logits, ends[:-1])]


@pytest.mark.parametrize("tied", [True, False])
def test_logits_match_transformers(tmp_path: Path, tied: bool) -> None:
    pair = Pair(tmp_path, tied=tied)
    tokens = random_tokens(70, seed=1)

    (actual,) = run(pair.ours, [(tokens, 0, 70, 0)])

    expected = pair.logits(tokens)
    assert np.abs(expected).max() > 1  # a comparison of zeros would prove nothing
    np.testing.assert_allclose(actual, expected, atol=1e-4, rtol=1e-4)


def test_a_mixed_batch_matches_transformers(untied: Pair) -> None:
    old, new = random_tokens(40, seed=2), random_tokens(25, seed=3)
    run(untied.ours, [(old, 0, 39, 0)])

    decoded, prefilled = run(untied.ours, [(old, 39, 40, 0), (new, 0, 25, 8)])

    np.testing.assert_allclose(decoded, untied.logits(old)[39:], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(prefilled, untied.logits(new), atol=1e-4, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.sets(st.integers(1, 49), max_size=6),
    company=st.integers(0, 3),
    first_page=st.sampled_from([0, 8]),
)
def test_no_chunking_and_no_company_changes_a_bit(
    untied: Pair, cuts: set[int], company: int, first_page: int
) -> None:
    tokens = random_tokens(50, seed=4)
    (whole,) = run(untied.ours, [(tokens, 0, 50, 0)])
    others = [(random_tokens(30, seed=10 + n), 0, 20 + n, 16 + 8 * n) for n in range(company)]
    ends = [*sorted(cuts), 50]

    parts = [
        run(untied.ours, [*others, (tokens, start, end, first_page)])[-1]
        for start, end in zip([0, *ends], ends, strict=False)
    ]

    assert np.array_equal(np.concatenate(parts), whole)


def test_what_a_page_held_before_does_not_matter(untied: Pair) -> None:
    tokens = random_tokens(20, seed=5)
    (clean,) = run(untied.ours, [(tokens, 0, 20, 0)])
    untied.ours._keys[:, :8] = np.nan
    untied.ours._values[:, :8] = np.nan

    (actual,) = run(untied.ours, [(tokens, 0, 20, 0)])

    assert np.array_equal(actual, clean)


def test_only_the_rows_asked_for_get_logits(untied: Pair) -> None:
    tokens = random_tokens(20, seed=6)
    (everything,) = run(untied.ours, [(tokens, 0, 20, 0)])
    pages = np.arange(8, 10, dtype=np.int32)

    logits = untied.ours.forward(
        Batch(
            tokens=np.array(tokens, np.int32),
            spans=(Span(start=0, length=20, pages=pages),),
            logit_rows=np.array([3, 19], np.int32),
        )
    )

    assert np.array_equal(logits, everything[[3, 19]])

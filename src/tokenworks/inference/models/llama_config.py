"""Reads a Llama-family configuration from GGUF metadata and holds the tensors to it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.gguf import GGUF
from tokenworks.inference.models.gguf_values import LazyArray
from tokenworks.inference.models.tensors import TensorType

SUPPORTED_ARCHITECTURES = ("llama",)
NORM_TYPES = (TensorType.F32, TensorType.F16, TensorType.BF16)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The sizes and constants of a Llama-family model.

    `feed_forward` is the inner width of the SwiGLU block; `rope_dim` is how many of a head's
    `head_dim` elements are rotated; `rope_scale` divides positions (linear scaling, usually 1);
    `has_rope_factors` says that the file holds `rope_freqs.weight` [rope_dim / 2].
    """

    name: str
    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    context_length: int
    rms_eps: float
    rope_theta: float
    rope_dim: int
    rope_scale: float = 1.0
    has_rope_factors: bool = False
    tied_embedding: bool = False


def load_config(gguf: GGUF) -> ModelConfig:
    """The configuration, every key checked and every tensor's presence, shape and type too.

    Raises ModelFileError, naming what is wrong or unsupported.
    """
    config = _Reader(gguf).config()
    _check_tensors(gguf, config)
    return config


class _Reader:
    """Typed access to the metadata of one architecture."""

    def __init__(self, gguf: GGUF) -> None:
        self._gguf = gguf
        self._architecture = self._text("general.architecture")
        if self._architecture not in SUPPORTED_ARCHITECTURES:
            raise _error(
                gguf,
                f"architecture {self._architecture!r} is not supported",
                hint=f"supported architectures: {', '.join(SUPPORTED_ARCHITECTURES)}",
            )

    def config(self) -> ModelConfig:
        hidden = self._size("embedding_length")
        heads = self._size("attention.head_count")
        kv_heads = self._size("attention.head_count_kv", default=heads)
        head_dim = self._head_dim(hidden, heads)
        if heads % kv_heads:
            raise self._error(f"{heads} heads cannot share {kv_heads} key-value heads evenly")
        self._refuse_unsupported()
        return ModelConfig(
            name=str(self._gguf.metadata.get("general.name", self._gguf.path.stem)),
            architecture=self._architecture,
            layers=self._size("block_count"),
            hidden=hidden,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            feed_forward=self._size("feed_forward_length"),
            vocabulary=self._vocabulary(),
            context_length=self._size("context_length"),
            rms_eps=self._number("attention.layer_norm_rms_epsilon"),
            rope_theta=self._number("rope.freq_base", default=10_000.0),
            rope_dim=self._rope_dim(head_dim),
            rope_scale=self._rope_scale(),
            has_rope_factors="rope_freqs.weight" in self._gguf.tensors,
            tied_embedding="output.weight" not in self._gguf.tensors,
        )

    def _head_dim(self, hidden: int, heads: int) -> int:
        if f"{self._architecture}.attention.key_length" not in self._gguf.metadata:
            if hidden % heads:
                raise self._error(f"embedding_length {hidden} is no multiple of {heads} heads")
            return hidden // heads
        head_dim = self._size("attention.key_length")
        value_dim = self._size("attention.value_length", default=head_dim)
        if value_dim != head_dim:
            raise self._error(f"keys of {head_dim} and values of {value_dim} elements")
        return head_dim

    def _rope_dim(self, head_dim: int) -> int:
        rope_dim = self._size("rope.dimension_count", default=head_dim)
        if rope_dim % 2 or rope_dim > head_dim:
            raise self._error(
                f"rope.dimension_count is {rope_dim}, not an even number up to {head_dim}"
            )
        return rope_dim

    def _rope_scale(self) -> float:
        key = f"{self._architecture}.rope.scaling.type"
        kind = self._gguf.metadata.get(key, "none")
        if kind == "none":
            return 1.0
        if kind == "linear":
            return self._number("rope.scaling.factor")
        raise self._error(f"{key} {kind!r} is not supported", hint="supported: none, linear")

    def _vocabulary(self) -> int:
        embedding = self._gguf.tensors.get("token_embd.weight")
        if embedding is None:
            raise self._error("tensor 'token_embd.weight' is missing")
        rows = embedding.shape[0]
        tokens = self._gguf.metadata.get("tokenizer.ggml.tokens")
        named = len(tokens) if isinstance(tokens, LazyArray) else rows
        stated = self._size("vocab_size", default=rows)
        if not rows == named == stated:
            raise self._error(
                f"vocabulary sizes differ: {rows} embeddings, {named} tokens, {stated} stated"
            )
        return rows

    def _refuse_unsupported(self) -> None:
        experts = self._gguf.metadata.get(f"{self._architecture}.expert_count", 0)
        if experts != 0:
            raise self._error(f"mixture-of-experts models ({experts} experts) are not supported")

    def _text(self, key: str) -> str:
        value = self._gguf.metadata.get(key)
        if not isinstance(value, str):
            raise _missing_or_wrong(self._gguf, key, value, "text")
        return value

    def _size(self, name: str, *, default: int | None = None) -> int:
        key = f"{self._architecture}.{name}"
        value = self._gguf.metadata.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise _missing_or_wrong(self._gguf, key, value, "a whole number of at least 1")
        return value

    def _number(self, name: str, *, default: float | None = None) -> float:
        key = f"{self._architecture}.{name}"
        value = self._gguf.metadata.get(key, default)
        if not isinstance(value, float) or not math.isfinite(value) or value <= 0:
            raise _missing_or_wrong(self._gguf, key, value, "a positive number")
        return value

    def _error(self, problem: str, *, hint: str | None = None) -> ModelFileError:
        return _error(self._gguf, problem, hint=hint)


def _check_tensors(gguf: GGUF, config: ModelConfig) -> None:
    expected = 0
    for name, shape, types in expected_tensors(config):
        info = gguf.tensors.get(name)
        if info is None:
            raise _error(gguf, f"tensor {name!r} is missing")
        if info.shape != shape:
            raise _error(gguf, f"tensor {name!r} has shape {list(info.shape)}, not {list(shape)}")
        if info.type not in types:
            raise _error(
                gguf,
                f"tensor {name!r} has type {info.type.name}, which is not supported for it",
                hint=f"supported: {', '.join(type.name for type in types)}",
            )
        expected += 1
    if expected != len(gguf.tensors):
        known = {name for name, _, _ in expected_tensors(config)}
        unknown = next(name for name in gguf.tensors if name not in known)
        # Ignoring a tensor (a bias, say) would compute another model than the file holds.
        raise _error(gguf, f"tensor {unknown!r} is not part of a supported Llama model")


def expected_tensors(
    config: ModelConfig,
) -> Iterator[tuple[str, tuple[int, ...], tuple[TensorType, ...]]]:
    """Name, shape and possible types of every tensor of a model."""
    matrix, norm = tuple(TensorType), NORM_TYPES
    hidden, inner = config.hidden, config.feed_forward
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    yield "token_embd.weight", (config.vocabulary, hidden), matrix
    yield "output_norm.weight", (hidden,), norm
    if not config.tied_embedding:
        yield "output.weight", (config.vocabulary, hidden), matrix
    if config.has_rope_factors:
        yield "rope_freqs.weight", (config.rope_dim // 2,), (TensorType.F32,)
    for layer in range(config.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (hidden,), norm
        yield block + "attn_q.weight", (queries, hidden), matrix
        yield block + "attn_k.weight", (keys, hidden), matrix
        yield block + "attn_v.weight", (keys, hidden), matrix
        yield block + "attn_output.weight", (hidden, queries), matrix
        yield block + "ffn_norm.weight", (hidden,), norm
        yield block + "ffn_gate.weight", (inner, hidden), matrix
        yield block + "ffn_up.weight", (inner, hidden), matrix
        yield block + "ffn_down.weight", (hidden, inner), matrix


def _missing_or_wrong(gguf: GGUF, key: str, value: object, wanted: str) -> ModelFileError:
    if value is None:
        return _error(gguf, f"metadata {key!r} is missing")
    return _error(gguf, f"metadata {key!r} is {value!r}, not {wanted}")


def _error(gguf: GGUF, problem: str, *, hint: str | None = None) -> ModelFileError:
    return ModelFileError(f"Model file '{gguf.path}': {problem}", hint=hint)

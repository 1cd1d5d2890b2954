"""The fast executor: C++ kernels on packed weights, one call per forward.

Weights keep the precision of the file: 4-bit groups stay 4-bit, 8-bit stay 8-bit, floats become
8-bit groups (or bf16 where a row is not a whole number of groups); other formats become one of
these (`models/panel_format.py`). A `Rounding` makes some of them smaller. What was packed of a file
leaves memory at once. Activations are int8 in groups of 32, or with AMX of two digits where weights
have 4 bits; keys and values bf16, or int8 with a scale for each token and head.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import ConfigError, UnsupportedByKernels
from tokenworks.inference import _kernels
from tokenworks.inference.executors.base import Batch
from tokenworks.inference.models.kv_format import KvFormat
from tokenworks.inference.models.model import Model
from tokenworks.inference.models.packing import KERNEL_LANES
from tokenworks.inference.models.panel_format import bits_of
from tokenworks.inference.models.rounding import NO_ROUNDING, MatrixClass, Rounding, matrix_class

_OUTER = -1  # the kernels' number for what stands outside of the layers


def supported_paths() -> tuple[str, ...]:
    """Instruction-set paths that this processor can run, best first."""
    return tuple(_kernels.supported_paths())


def choose_path(isa: str) -> str:
    """The path to use for a setting. Raises ConfigError if this processor cannot run it."""
    supported = supported_paths()
    if isa == "auto":
        return supported[0]
    if isa not in supported:
        raise ConfigError(
            f"This processor cannot run the instruction set {isa!r}",
            hint=f"it can run: {', '.join(supported)}; or leave the choice to --isa auto",
        )
    return isa


class NativeExecutor:
    """Runs a model on this machine's processors."""

    def __init__(
        self,
        model: Model,
        *,
        isa: str,
        threads: int,
        context_length: int,
        rounding: Rounding = NO_ROUNDING,
        kv_format: KvFormat = "bf16",
    ) -> None:
        config = model.config
        if config.head_dim % KERNEL_LANES:
            raise UnsupportedByKernels(
                f"Heads of {config.head_dim} dimensions are not a multiple of {KERNEL_LANES}, "
                "as kernels need"
            )
        self._path = choose_path(isa)
        self._threads = threads
        self._context_length = min(context_length or config.context_length, config.context_length)
        self._vocabulary = config.vocabulary
        self._hidden = config.hidden
        self._kv_format = kv_format
        self._transformer = _open(model, self._path, threads, kv_format)
        self._rounding = rounding
        _load(model, self._transformer, rounding)
        self._logits = np.empty((0, self._transformer.logit_stride), np.float32)

    @property
    def description(self) -> str:
        plural = "s" if self._threads > 1 else ""
        formats = self._rounding.formats
        rounded = [f"{name} in {bits_of(formats[name])} bits" for name in sorted(formats)]
        kv = [f"{self._kv_format} KV"] if self._kv_format != "bf16" else []
        return ", ".join([f"native {self._path}", f"{self._threads} thread{plural}", *rounded, *kv])

    @property
    def vocabulary_size(self) -> int:
        return self._vocabulary

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def page_bytes(self) -> int:
        return self._transformer.page_bytes

    @property
    def weight_bytes(self) -> int:
        """Bytes of packed weights, the rows of the embedding not counted."""
        return self._transformer.weight_bytes

    def round_to(self, model: Model, rounding: Rounding) -> None:
        """Pack those classes of matrices anew that are held otherwise, in the memory they have.
        `model` is the one that was loaded."""
        before, self._rounding = self._rounding, rounding
        for name, info in model.tensors.items():
            of = matrix_class(name, tied=model.config.tied_embedding)
            if of is None or len(info.shape) != 2 or _held_alike(of, before, rounding):
                continue
            layer, own = _place(name)
            stem = "output" if of == "output" else own.removesuffix(".weight")
            _load_matrix(model, self._transformer, name, layer, stem, rounding)

    def allocate(self, pages: int) -> None:
        self._transformer.allocate(pages)

    def copy_rows(self, source: int, target: int, rows: int) -> None:
        self._transformer.copy_rows(source, target, rows)

    def read_page(self, page: int) -> bytes:
        return self._transformer.read_page(page)

    def write_page(self, page: int, content: bytes | memoryview) -> None:
        self._transformer.write_page(page, np.frombuffer(content, np.uint8))

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        """See Executor. The result is a view that the next forward overwrites."""
        wanted = len(batch.logit_rows)
        if len(self._logits) < wanted:
            self._logits = np.empty((wanted, self._transformer.logit_stride), np.float32)
        self._run(batch, batch.logit_rows, self._logits, encode=False)
        return self._logits[:wanted, : self._vocabulary]

    def encode(self, batch: Batch) -> NDArray[np.float32]:
        rows = len(batch.tokens)
        hidden = np.empty((rows, self._hidden), np.float32)
        self._run(batch, np.arange(rows, dtype=np.int32), hidden, encode=True)
        return hidden

    def _run(
        self, batch: Batch, wanted: NDArray[np.int32], out: NDArray[np.float32], *, encode: bool
    ) -> None:
        spans = batch.spans
        offsets = np.zeros(len(spans) + 1, np.int32)
        np.cumsum([len(span.pages) for span in spans], out=offsets[1:])
        self._transformer.forward(
            batch.tokens,
            np.array([span.start for span in spans], np.int32),
            np.array([span.length for span in spans], np.int32),
            offsets,
            np.concatenate([span.pages for span in spans]),
            wanted,
            encode,
            out,
        )


def _open(model: Model, path: str, threads: int, kv_format: KvFormat) -> _kernels.Transformer:
    config, block = model.config, model.config.block
    windowed = model.rope_frequencies(windowed=True) if config.window_rope_theta else np.zeros(0)
    try:
        return _kernels.Transformer(
            path,
            threads,
            layers=config.layers,
            hidden=config.hidden,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            feed_forward=config.feed_forward,
            vocabulary=config.vocabulary,
            norm_epsilon=config.norm_epsilon,
            norm=block.norm,
            norms=block.norms,
            activation=block.activation,
            gated=block.gated,
            causal=block.causal,
            interleaved=config.rope_interleaved,
            query_scale=config.score_scale,
            embedding_scale=config.embedding_scale,
            positions=config.positions,
            inverse_frequencies=model.rope_frequencies().astype(np.float32).tolist(),
            window_frequencies=windowed.astype(np.float32).tolist(),
            windows=list(config.windows),
            kv_format=kv_format,
        )
    except RuntimeError as error:  # all else that could be wrong was checked with the model
        raise ConfigError(
            f"{threads} threads cannot be started: {error}", hint="set fewer threads"
        ) from error


def _place(name: str) -> tuple[int, str]:
    """The layer of a tensor, and its name there."""
    place, _, rest = name.removeprefix("blk.").partition(".")
    return (int(place), rest) if name.startswith("blk.") else (_OUTER, name)


def _held_alike(of: MatrixClass, one: Rounding, other: Rounding) -> bool:
    formats = one.formats.get(of), other.formats.get(of)
    important = of == "output" and one.output_importance != other.output_importance
    return formats[0] == formats[1] and not (important and formats[0])


def _load(model: Model, transformer: _kernels.Transformer, rounding: Rounding) -> None:
    for name, info in model.tensors.items():
        layer, own = _place(name)
        stem = own.removesuffix(".weight")
        if stem == "token_embd":
            _load_embedding(model, transformer, rounding)
        elif stem == "position_embd":
            transformer.set_vector(_OUTER, stem, _positions(model))
        elif len(info.shape) == 2 and stem != "token_types":
            _load_matrix(model, transformer, name, layer, stem, rounding)
        elif stem.endswith("_norm"):
            transformer.set_vector(layer, own, model.norm(name.removesuffix(".weight")))
        elif own.endswith(".bias"):
            transformer.set_vector(layer, own, model.float32(name))


def _load_embedding(model: Model, transformer: _kernels.Transformer, rounding: Rounding) -> None:
    name = "token_embd.weight"
    type, _, rows = model.tensor(name)
    transformer.set_embedding(type.name, rows)
    if model.config.tied_embedding:
        _load_matrix(model, transformer, name, _OUTER, "output", rounding)


def _load_matrix(
    model: Model,
    transformer: _kernels.Transformer,
    name: str,
    layer: int,
    stem: str,
    rounding: Rounding,
) -> None:
    type, _, raw = model.tensor(name)
    of = matrix_class(name, tied=model.config.tied_embedding)
    format = rounding.formats.get(of, "") if of else ""
    importance = rounding.importance(of)
    release = partial(model.release, name)
    transformer.set_matrix(layer, stem, type.name, raw, release, format, importance)


def _positions(model: Model) -> NDArray[np.float32]:
    """What is added to the embedding at each position: float32 [positions * hidden]. All tokens
    are of the first type."""
    rows = model.float32("position_embd.weight")[model.config.position_offset :]
    typed: NDArray[np.float32] = rows + model.float32("token_types.weight")[0]
    return typed.reshape(-1)

"""The fast executor: C++ kernels on packed weights, one call per forward.

Weights keep the precision of the file: 4-bit groups stay 4-bit, 8-bit stay 8-bit, floats become
8-bit groups (or bf16 where a row is not a whole number of groups); other formats are repacked
into one of these, tensor by tensor (`models/kernel_input.py`). Activations are int8 in groups of
32, keys and values fp16.
"""

import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import ConfigError, UnsupportedByKernels
from tokenworks.inference import _kernels
from tokenworks.inference.executors.base import Batch
from tokenworks.inference.models.kernel_input import embedding_input, matrix_input
from tokenworks.inference.models.llama import Model

_MATRICES = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "g": "ffn_gate",
    "u": "ffn_up",
    "d": "ffn_down",
}


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


def _matrix(model: Model, name: str) -> tuple[str, NDArray[np.uint8]]:
    type, shape, raw = model.tensor(name)
    given, data = matrix_input(raw, type, shape)
    return given.name, data


class NativeExecutor:
    """Runs a Llama-family model on this machine's processors."""

    def __init__(self, model: Model, *, isa: str, threads: int, context_length: int) -> None:
        config = model.config
        if config.head_dim % 16:
            raise UnsupportedByKernels(
                f"Heads of {config.head_dim} dimensions are not a multiple of 16, as kernels need"
            )
        self._path = choose_path(isa)
        self._threads = threads
        self._context_length = min(context_length or config.context_length, config.context_length)
        self._vocabulary = config.vocabulary
        self._llama = self._open(model)
        self._load(model)
        self._logits = np.empty((0, self._llama.logit_stride), np.float32)

    def _open(self, model: Model) -> _kernels.Llama:
        config = model.config
        try:
            return _kernels.Llama(
                self._path,
                self._threads,
                layers=config.layers,
                hidden=config.hidden,
                heads=config.heads,
                kv_heads=config.kv_heads,
                head_dim=config.head_dim,
                feed_forward=config.feed_forward,
                vocabulary=config.vocabulary,
                rms_epsilon=config.rms_eps,
                inverse_frequencies=model.rope_frequencies().astype(np.float32).tolist(),
            )
        except RuntimeError as error:  # all else that could be wrong was checked with the model
            raise ConfigError(
                f"{self._threads} threads cannot be started: {error}", hint="set fewer threads"
            ) from error

    def _load(self, model: Model) -> None:
        self._load_vocabulary(model)
        self._llama.set_final_norm(model.float32("output_norm.weight"))
        for layer in range(model.config.layers):
            block = f"blk.{layer}."
            self._llama.set_norms(
                layer,
                model.float32(f"{block}attn_norm.weight"),
                model.float32(f"{block}ffn_norm.weight"),
            )
            for letter, name in _MATRICES.items():
                self._llama.set_matrix(layer, letter, *_matrix(model, f"{block}{name}.weight"))

    def _load_vocabulary(self, model: Model) -> None:
        type, shape, raw = model.tensor("token_embd.weight")
        given, rows = embedding_input(raw, type, shape)
        self._llama.set_embedding(given.name, rows)
        if model.config.tied_embedding:
            self._llama.set_head(given.name, rows)
        else:
            self._llama.set_head(*_matrix(model, model.output_name()))

    @property
    def description(self) -> str:
        plural = "s" if self._threads > 1 else ""
        return f"native {self._path}, {self._threads} thread{plural}"

    @property
    def vocabulary_size(self) -> int:
        return self._vocabulary

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def page_bytes(self) -> int:
        return self._llama.page_bytes

    @property
    def weight_bytes(self) -> int:
        """Bytes of packed weights, the rows of the embedding not counted."""
        return self._llama.weight_bytes

    def allocate(self, pages: int) -> None:
        self._llama.allocate(pages)

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        """See Executor. The result is a view that the next forward overwrites."""
        spans = batch.spans
        wanted = len(batch.logit_rows)
        if len(self._logits) < wanted:
            self._logits = np.empty((wanted, self._llama.logit_stride), np.float32)
        offsets = np.zeros(len(spans) + 1, np.int32)
        np.cumsum([len(span.pages) for span in spans], out=offsets[1:])
        self._llama.forward(
            batch.tokens,
            np.array([span.start for span in spans], np.int32),
            np.array([span.length for span in spans], np.int32),
            offsets,
            np.concatenate([span.pages for span in spans]),
            batch.logit_rows,
            self._logits,
        )
        return self._logits[:wanted, : self._vocabulary]

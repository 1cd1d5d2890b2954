"""Computes the same model with several sets of weights side by side, layer by layer.

A stream is a number of windows that are computed with one set. All streams are rows of one batch,
so that a matrix is read once, used for all of them and let go of: however large the model, memory
holds the streams' activations and one matrix.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Span
from tokenworks.inference.executors.float_weights import vector_of
from tokenworks.inference.executors.numerics import Array
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.model import Model
from tokenworks.inference.models.quantisation import dequantise
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.quality import Window, pages_of

Done = Callable[[int], None]
"""Told the bytes of a matrix that will not be asked for again."""

SLAB_WEIGHTS = 1 << 22
"""Weights of a matrix that are held in float32 at once: 16 MiB."""


class Matrix:
    """An encoded matrix: float32 a slab of rows at a time."""

    def __init__(self, type: TensorType, shape: tuple[int, ...], raw: NDArray[np.uint8]) -> None:
        self.type, self.shape = type, shape
        self._rows = raw.reshape(shape[0], -1)

    def slabs(self) -> list[slice]:
        step = max(1, SLAB_WEIGHTS // self.shape[1])
        return [slice(at, min(at + step, self.shape[0])) for at in range(0, self.shape[0], step)]

    def raw(self, rows: slice) -> NDArray[np.uint8]:
        return self._rows[rows].reshape(-1)

    def float32(self, rows: slice | NDArray[np.int32]) -> Array:
        chosen = self._rows[rows]
        return dequantise(chosen.reshape(-1), self.type, (len(chosen), self.shape[1]))

    def times(self, inputs: Array) -> Array:
        """[.., in] → [.., out]."""
        product = np.empty((*inputs.shape[:-1], self.shape[0]), np.float32)
        rows, found = flat(inputs), flat(product)
        for slab in self.slabs():
            found[:, slab] = rows @ self.float32(slab).T
        return product


def flat(tiles: Array) -> Array:
    """[.., n] as rows [rows, n], a view: BLAS takes one large product faster than many."""
    return tiles.reshape(-1, tiles.shape[-1])


class StreamedWeights:
    """Answers the reference executor for all streams. Who derives says what differs between them.

    Windows have one length, a multiple of a page, so that no tile is partly empty.
    """

    def __init__(self, model: Model, streams: Sequence[Sequence[Window]]) -> None:
        self.model = model
        self._streams = streams
        self._done: Done = lambda _: None

    def hidden(self) -> list[Array]:
        """One forward of everything: each stream's last hidden states [tokens, hidden]."""
        executor = ReferenceExecutor(self.model, weights=self, one_layer_kv=True)
        batch = self._batch()
        executor.allocate(sum(len(span.pages) for span in batch.spans))
        ends = np.cumsum([len(windows) * len(windows[0]) for windows in self._streams])
        return np.split(executor.encode(batch), ends[:-1])

    def tiles(self, stream: int) -> slice:
        """Where a stream's tiles lie among all."""
        counts = [len(windows) * pages_of(windows[0]) for windows in self._streams]
        begin = sum(counts[:stream])
        return slice(begin, begin + counts[stream])

    def matrix(self, name: str) -> Matrix:
        return Matrix(*self.model.tensor(f"{name}.weight"))

    def release(self, name: str) -> None:
        """Give back the memory that holds the file's bytes of a matrix, which is done with."""
        full = f"{name}.weight"
        nbytes = self.model.tensors[full].nbytes
        self.model.release(full, 0, nbytes)
        self._done(nbytes)

    def embedding(self, stream: int) -> Matrix:
        """The embedding that a stream looks its tokens up in."""
        return self.matrix("token_embd")

    def vector(self, name: str) -> Array | None:
        return vector_of(self.model, name)

    def rows(self, name: str, rows: NDArray[np.int32]) -> Array:
        """Tokens are counted on from stream to stream (`_batch`), which tells whose they are."""
        vocabulary = self.model.config.vocabulary
        return self.embedding(int(rows[0]) // vocabulary).float32(rows % vocabulary)

    def times(self, inputs: Array, name: str) -> Array:
        """The file's own matrix for every stream."""
        product = self.matrix(name).times(inputs)
        self.release(name)
        return product

    def logits(self, hidden: Array) -> Array:
        raise AssertionError("the streams end before the head")

    def _batch(self) -> Batch:
        spans, tokens, pages = [], [], 0
        for number, windows in enumerate(self._streams):
            for window in windows:
                assert len(window) % PAGE_TOKENS == 0
                own = np.arange(pages, pages + pages_of(window), dtype=np.int32)
                spans.append(Span(start=0, length=len(window), pages=own))
                tokens.append(np.array(window, np.int32) + number * self.model.config.vocabulary)
                pages += len(own)
        return Batch(
            tokens=np.concatenate(tokens),
            spans=tuple(spans),
            logit_rows=np.empty(0, np.int32),
        )

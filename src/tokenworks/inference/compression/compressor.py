"""Compresses a model while computing it: each matrix when its inputs are known, and from then on
with the result. So a matrix is solved for what it will be given by layers compressed before it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np

from tokenworks.errors import ModelFileError
from tokenworks.inference.compression.codes import CODES, LARGEST, Bytes, encode
from tokenworks.inference.compression.material import Material
from tokenworks.inference.compression.plan import part_of
from tokenworks.inference.compression.solving import Curvature, Moments, nearest, solve
from tokenworks.inference.compression.streams import Done, Matrix, StreamedWeights, flat
from tokenworks.inference.executors.numerics import Array
from tokenworks.inference.models.model import Model
from tokenworks.inference.models.quantisation import dequantise
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.quality import Comparison, Quality

Write = Callable[[str, Bytes], None]
"""Takes the next bytes of a tensor."""

_LEARNING, _JUDGED, _SOURCE_JUDGED, _SOURCE_LEARNING = range(4)
_PIECE_VALUES: Final = 1 << 24
"""Logits of one side that are held at once: 64 MiB."""


class Compressor(StreamedWeights):
    """Four streams: what is learnt from and what is judged by, each with the compressed matrices as
    far as there are any, and with the source's.

    `types` says what every tensor is written as. Unless it `solves`, weights are rounded one by
    one. `head_inputs` are for a head that is the embedding too, and so is needed before its inputs
    are known; without them it is rounded one by one.
    """

    def __init__(
        self,
        model: Model,
        types: Mapping[str, TensorType],
        material: Material,
        write: Write,
        *,
        solves: bool = True,
        head_inputs: Moments | None = None,
    ) -> None:
        learning, judged = material.learning, material.judged
        super().__init__(model, (learning, judged, judged, learning))
        self._types = types
        self._write = write
        self._solves = solves
        self._head_inputs = head_inputs
        self._seen: tuple[Array, Curvature] | None = None
        self._embedding = self.matrix("token_embd")

    def run(self, done: Done) -> Quality:
        """Write every tensor; tells how near the result comes to the source where it did not learn.

        `done` is told the bytes of each matrix that is done with. Raises ModelFileError for weights
        that are no numbers, or compute none.
        """
        self._done = done
        for name in self._types:
            if part_of(name) is None:
                self._write(name, self.model.tensor(name)[2])
        known = self._head_inputs
        self._embedding = self._whole("token_embd", None if known is None else Curvature.of(known))
        learning, judged, source_judged, source_learning = self.hidden()
        head = self._embedding
        if not self.model.config.tied_embedding:
            head = self._whole("output", self._curvature("output", learning, source_learning))
        theirs = self.matrix(self.model.output_name().removesuffix(".weight"))
        return compared(theirs, source_judged, head, judged)

    def embedding(self, stream: int) -> Matrix:
        return self._embedding if stream < _SOURCE_JUDGED else self.matrix("token_embd")

    def times(self, inputs: Array, name: str) -> Array:
        first = self.tiles(_SOURCE_JUDGED).start
        product = np.empty((*inputs.shape[:-1], self.matrix(name).shape[0]), np.float32)
        compressed, source = flat(inputs[:first]), flat(inputs[first:])
        for slab, theirs, raw in self._slabs(name, self._shared_curvature(name, inputs)):
            mine = dequantise(raw, self._types[f"{name}.weight"], theirs.shape)
            flat(product[:first])[:, slab] = compressed @ mine.T
            flat(product[first:])[:, slab] = source @ theirs.T
        return product

    def _whole(self, name: str, curvature: Curvature | None) -> Matrix:
        """A matrix, compressed, written and kept."""
        raw = [raw for _, _, raw in self._slabs(name, curvature)]
        return Matrix(self._types[f"{name}.weight"], self.matrix(name).shape, np.concatenate(raw))

    def _slabs(
        self, name: str, curvature: Curvature | None
    ) -> Iterator[tuple[slice, Array, Bytes]]:
        """Slabs of rows as they were, and encoded as they are written by then."""
        source, full = self.matrix(name), f"{name}.weight"
        for slab in source.slabs():
            theirs = source.float32(slab)
            largest = np.abs(theirs).max()
            if not largest <= LARGEST:
                raise ModelFileError(f"Tensor {full!r} holds {largest:g}: no scale reaches so far")
            raw = self._encoded(full, theirs, source.raw(slab), curvature)
            self._write(full, raw)
            yield slab, theirs, raw
        self.release(name)

    def _encoded(self, full: str, theirs: Array, raw: Bytes, curvature: Curvature | None) -> Bytes:
        type = self._types[full]
        if type == self.model.tensors[full].type:
            return raw
        code = CODES[type]
        if curvature is None:
            solved = nearest(code, theirs, np.ones(theirs.shape[1], np.float32))
        else:
            solved = solve(code, theirs, curvature)
        pieces = [encode(code, rows.quants, rows.groups) for rows in solved]
        return np.concatenate(pieces).reshape(-1)

    def _shared_curvature(self, name: str, inputs: Array) -> Curvature | None:
        """That of what is learnt from; computed once for matrices that are given the same."""
        if self._seen is None or self._seen[0] is not inputs:
            found = self._curvature(
                name,
                flat(inputs[self.tiles(_LEARNING)]),
                flat(inputs[self.tiles(_SOURCE_LEARNING)]),
            )
            if found is None:
                return None
            self._seen = inputs, found
        return self._seen[1]

    def _curvature(self, name: str, inputs: Array, sources: Array) -> Curvature | None:
        """None where nothing is to be solved."""
        full = f"{name}.weight"
        if not self._solves or self._types[full] == self.model.tensors[full].type:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            alike, strayed = moments_of(inputs, inputs), moments_of(sources - inputs, inputs)
        if not (np.isfinite(alike).all() and np.isfinite(strayed).all()):
            raise ModelFileError(f"The model computes no finite numbers before {full!r}")
        return Curvature.of(alike, strayed)


def moments_of(left: Array, right: Array) -> Moments:
    """The sum of the rows' outer products; in float64 beyond a few hundred rows."""
    total = np.zeros((left.shape[1], right.shape[1]))
    for at in range(0, len(left), 512):
        total += left[at : at + 512].T @ right[at : at + 512]
    return total


def compared(base: Matrix, source: Array, head: Matrix, judged: Array) -> Quality:
    """Of the next tokens that two heads find for hidden states [tokens, hidden]."""
    comparison = Comparison()
    step = max(1, _PIECE_VALUES // base.shape[0])
    for at in range(0, len(source), step):
        comparison.add(base.times(source[at : at + step]), head.times(judged[at : at + step]))
    return comparison.quality()

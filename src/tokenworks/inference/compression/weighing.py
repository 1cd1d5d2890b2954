"""Measures what fewer bits would cost each part of a model, in divergence of its answers."""

from collections.abc import Mapping, Sequence

import numpy as np

from tokenworks.inference.compression.codes import CODES, Bytes, encode
from tokenworks.inference.compression.compressor import compared, moments_of
from tokenworks.inference.compression.plan import Option, Part, codes_for, part_of
from tokenworks.inference.compression.solving import Moments, nearest
from tokenworks.inference.compression.streams import Done, Matrix, StreamedWeights
from tokenworks.inference.executors.numerics import Array
from tokenworks.inference.models.model import Model
from tokenworks.inference.models.tensors import TensorInfo, TensorType
from tokenworks.inference.quality import Window

_SAMPLED_ROWS = 256
"""Rows of a matrix by which types are compared."""


class Weigher(StreamedWeights):
    """The source's stream, and one for each part with that part alone in its smallest type.

    How much less another type costs follows from the squared errors of both: for small errors the
    divergence grows with them.
    """

    def __init__(self, model: Model, windows: Sequence[Window]) -> None:
        self._types = smallest_types(model.tensors)
        super().__init__(model, [windows] * (1 + len(self._types)))
        self._parts = list(self._types)
        self._errors: dict[Part, dict[TensorType, float]] = {part: {} for part in self._parts}
        outer = ("embedding", "output")
        self._outer = {part: self._rounded(part) for part in outer if part in self._types}

    def run(self, done: Done) -> tuple[dict[Part, list[Option]], Moments]:
        """Every part's options, and the moments of the head's inputs."""
        self._done = done
        source, *others = self.hidden()
        head = self.matrix(self.model.output_name().removesuffix(".weight"))
        heads = dict.fromkeys(self._parts, head)
        head_part = part_of(self.model.output_name())
        if head_part in self._outer:
            heads[head_part] = self._outer[head_part]
        options = {}
        for part, hidden in zip(self._parts, others, strict=True):
            kl = compared(head, source, heads[part], hidden).kl
            options[part] = self._options(part, max(kl, 0.0))
        return options, moments_of(source, source)

    def embedding(self, stream: int) -> Matrix:
        mine = stream > 0 and self._parts[stream - 1] == "embedding"
        return self._outer["embedding"] if mine else self.matrix("token_embd")

    def times(self, inputs: Array, name: str) -> Array:
        part, source = part_of(f"{name}.weight"), self.matrix(name)
        product = source.times(inputs)
        if part in self._types and self._shrinks(name):
            self._compare(part, name)
            tiles = self.tiles(1 + self._parts.index(part))
            product[tiles] = self._nearest(name, self._types[part]).times(inputs[tiles])
        self.release(name)
        return product

    def _rounded(self, part: Part) -> Matrix:
        name = "token_embd" if part == "embedding" else "output"
        self._compare(part, name)
        return self._nearest(name, self._types[part])

    def _shrinks(self, name: str) -> bool:
        return bool(codes_for([self.model.tensors[f"{name}.weight"]]))

    def _nearest(self, name: str, type: TensorType) -> Matrix:
        source = self.matrix(name)
        rows = [_coded(type, source.float32(slab)) for slab in source.slabs()]
        return Matrix(type, source.shape, np.concatenate(rows).reshape(-1))

    def _compare(self, part: Part, name: str) -> None:
        """Add up the squared errors that each type makes in some rows."""
        source = self.matrix(name)
        rows = source.float32(slice(0, _SAMPLED_ROWS))
        for type in codes_for([self.model.tensors[f"{name}.weight"]]):
            coded = Matrix(type, rows.shape, _coded(type, rows).reshape(-1))
            lost = float(np.square(coded.float32(slice(None)) - rows, dtype=np.float64).sum())
            errors = self._errors[part]
            errors[type] = errors.get(type, 0.0) + lost

    def _options(self, part: Part, kl: float) -> list[Option]:
        errors = self._errors[part]
        most = errors[self._types[part]] or 1.0
        return [
            *(Option(type, kl * error / most) for type, error in errors.items()),
            Option(None, 0.0),
        ]


def smallest_types(tensors: Mapping[str, TensorInfo]) -> dict[Part, TensorType]:
    """The smallest type that each part can be written as; parts that cannot shrink are left out."""
    infos: dict[Part, list[TensorInfo]] = {}
    for name, info in tensors.items():
        part = part_of(name)
        if part is not None:
            infos.setdefault(part, []).append(info)
    codes = {part: codes_for(its) for part, its in infos.items()}
    return {part: types[0] for part, types in codes.items() if types}


def _coded(type: TensorType, rows: Array) -> Bytes:
    code = CODES[type]
    solved = nearest(code, rows, np.ones(rows.shape[1], np.float32))
    return np.concatenate([encode(code, piece.quants, piece.groups) for piece in solved])

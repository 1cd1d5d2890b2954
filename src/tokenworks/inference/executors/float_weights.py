"""Where the reference executor's weights come from: what it asks for, and the plain answer.

Whoever wants to see what each matrix is multiplied with, or to choose the matrix only then,
answers in another way.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.executors.numerics import Array
from tokenworks.inference.models.model import Model


class Weights(Protocol):
    """A model's weights in float32. Vectors go by GGUF's names, matrices without ".weight"."""

    def vector(self, name: str) -> Array | None:
        """A norm's weights or a bias, as it is computed with; None if the model has no such one."""
        ...

    def rows(self, name: str, rows: NDArray[np.int32]) -> Array:
        """These rows of a matrix that is looked up in."""
        ...

    def times(self, inputs: Array, name: str) -> Array:
        """inputs [tiles, 16, in] times a matrix [out, in]: [tiles, 16, out]. Called once in a
        forward for each matrix of a layer, in the order in which they compute."""
        ...

    def logits(self, hidden: Array) -> Array:
        """The head's product with one row: [hidden] → [vocabulary]."""
        ...


def vector_of(model: Model, name: str) -> Array | None:
    """A model's vector as it is computed with; None if it has none so called."""
    if name not in model.tensors:
        return None
    if name.endswith("_norm.weight"):
        return model.norm(name.removesuffix(".weight"))
    return model.float32(name)


class LoadedWeights:
    """All of a model's weights, dequantised once, at the start."""

    def __init__(self, model: Model) -> None:
        tensors = model.tensors.items()
        self._matrices = {name: model.float32(name) for name, its in tensors if len(its.shape) == 2}
        vectors = {name: vector_of(model, name) for name, its in tensors if len(its.shape) == 1}
        self._vectors = vectors
        self._head = self._matrices[model.output_name()] if not model.config.is_encoder else None

    def vector(self, name: str) -> Array | None:
        return self._vectors.get(name)

    def rows(self, name: str, rows: NDArray[np.int32]) -> Array:
        return self._matrices[f"{name}.weight"][rows]

    def times(self, inputs: Array, name: str) -> Array:
        """Tile by tile, so that BLAS always sees the same shape."""
        matrix = self._matrices[f"{name}.weight"]
        product = np.empty((*inputs.shape[:-1], matrix.shape[0]), np.float32)
        for tile, out in zip(inputs, product, strict=True):
            np.matmul(tile, matrix.T, out=out)
        return product

    def logits(self, hidden: Array) -> Array:
        assert self._head is not None
        logits: Array = self._head @ hidden
        return logits

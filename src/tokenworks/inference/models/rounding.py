"""Which matrices of a model are rounded to fewer bits than their file has, and to how many.

Matrices go by classes, those of all layers together: what is chosen for one holds for its class.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.models.panel_format import GroupFormat

MatrixClass = Literal["attention", "gate and up", "down", "output"]
CLASSES: Final[tuple[MatrixClass, ...]] = get_args(MatrixClass)
Formats = Mapping[MatrixClass, GroupFormat]
"""What classes are rounded to; one that is not named stays as its file has it."""

AS_STORED: Final[Formats] = {}
_MOST_EXPONENT: Final = 20


class Rounding(msgspec.Struct, frozen=True):
    """How the weights of one model are held.

    `output_importance` says how much the square of an error in each input of the output head
    counts, as powers of two; empty where all count alike.
    """

    formats: dict[MatrixClass, GroupFormat] = {}
    output_importance: tuple[int, ...] = ()

    def importance(self, matrix_class: MatrixClass | None) -> NDArray[np.float32] | None:
        """float32 [inputs] for the kernels; None where all errors count alike."""
        if matrix_class != "output" or not self.output_importance:
            return None
        return np.exp2(np.array(self.output_importance, np.float32))


NO_ROUNDING: Final = Rounding()


def matrix_class(name: str, *, tied: bool) -> MatrixClass | None:
    """The class of a matrix by GGUF's name; None for what is no matrix of a product. `tied` says
    that the embedding is the output head too."""
    part = name.removesuffix(".weight").rpartition(".")[2]
    if part == "output" or (part == "token_embd" and tied):
        return "output"
    if part == "ffn_down":
        return "down"
    if part.startswith("ffn_"):
        return "gate and up"
    return "attention" if part.startswith("attn_") else None


def importance_of(states: NDArray[np.float32]) -> tuple[int, ...]:
    """How much an error in each input counts for states like these [rows, inputs]: its mean square
    against the middle one's, as a power of two. The squared error of a product with a row of
    weights is, inputs being independent, the sum of each weight's squared error times this."""
    squares = np.mean(states.astype(np.float64) ** 2, axis=0)
    present = squares[squares > 0]
    if not len(present):
        return (0,) * len(squares)
    relative = np.maximum(squares / np.median(present), 2.0**-_MOST_EXPONENT)
    exponents = np.clip(np.rint(np.log2(relative)), -_MOST_EXPONENT, _MOST_EXPONENT)
    return tuple(int(exponent) for exponent in exponents)

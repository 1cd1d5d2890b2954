"""How 32 consecutive weights of a row become whole numbers with a scale, and how they are written.

Everything here works on many rows' groups at once, as [32, rows]: a place in the group is one run
of memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.models.assembling import assemble
from tokenworks.inference.models.tensors import TensorType

GROUP: Final = 32
LARGEST: Final = 65504.0
"""Of float16."""

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_ROUNDS: Final = 2
"""How often a scale is fitted to the quants that it gave; more changed no result noticeably."""


@dataclass(frozen=True, slots=True)
class Code:
    """A type of ggml whose weights are scale * quant + least, quants from `low` to `high`.

    Scale and least weight are float16 and shared by a group; without `has_least` it is 0.
    """

    type: TensorType
    low: int
    high: int
    has_least: bool = False

    @property
    def bits(self) -> float:
        """Bits of file that a weight takes."""
        return 8 * self.type.block_bytes / self.type.block_weights


CODES: Final = {
    code.type: code
    for code in (
        Code(TensorType.Q4_0, -8, 7),
        Code(TensorType.Q4_1, 0, 15, has_least=True),
        Code(TensorType.Q5_0, -16, 15),
        Code(TensorType.Q8_0, -127, 127),
    )
}
"""What can be written, the smallest first."""


@dataclass(frozen=True, slots=True)
class Factors:
    """A group's scale and least weight for each row: float32 [rows], exact in float16."""

    scale: Floats
    least: Floats

    def quants(self, code: Code, weights: Floats) -> Floats:
        """The nearest whole numbers, as floats: of the shape of `weights` [.., rows]."""
        inverse = np.divide(1, self.scale, out=np.zeros_like(self.scale), where=self.scale != 0)
        quants: Floats = np.rint((weights - self.least) * inverse)
        return np.clip(quants, code.low, code.high, out=quants)

    def values(self, quants: Floats) -> Floats:
        values: Floats = quants * self.scale + self.least
        return values


def fit(code: Code, weights: Floats, importance: Floats) -> Factors:
    """The factors that lose least, of a few candidates, then refined by least squares.

    weights [32, rows]; importance [32] multiplies each place's squared error.
    """
    candidates = _spans(code, weights) if code.has_least else _reaches(code, weights)
    best = candidates[0]
    error = _error(code, weights, importance, best)
    for candidate in candidates[1:]:
        best, error = _better(code, weights, importance, best, error, candidate)
    for _ in range(_ROUNDS):
        refined = _least_squares(code, weights, importance, best.quants(code, weights))
        best, error = _better(code, weights, importance, best, error, refined)
    return best


def encode(code: Code, quants: Floats, groups: Sequence[Factors]) -> Bytes:
    """Rows in numbers as blocks: uint8 [rows, bytes]. quants [columns, rows], `groups` the factors
    of each 32 columns.
    """
    scales = np.stack([group.scale for group in groups], axis=1)
    least = np.stack([group.least for group in groups], axis=1)
    blocks = np.ascontiguousarray(quants.T).astype(np.int8).reshape(-1, GROUP)
    raw = assemble(code.type, blocks, scales.reshape(-1, 1), least.reshape(-1, 1))
    return raw.reshape(len(scales), -1)


def _reaches(code: Code, weights: Floats) -> list[Factors]:
    """The largest weight becomes the lowest or the highest quant, or something beyond or below."""
    place = np.abs(weights).argmax(0)[None]
    largest = np.take_along_axis(weights, place, 0)[0]
    fine = code.high > 64  # where clipping costs more than it gives
    ends = (code.high,) if fine else (code.low, code.high)
    shares = (1.0, 0.97) if fine else (1.0, 0.75, 0.85, 0.93, 1.07)
    nothing = np.zeros_like(largest)
    return [
        Factors(_half(largest / np.float32(end * share)), nothing)
        for end in ends
        for share in shares
    ]


def _spans(code: Code, weights: Floats) -> list[Factors]:
    """From the least weight to the largest, or a little less at either end."""
    low, span = weights.min(0), np.ptp(weights, 0)
    cuts = (0.0, 0.04, 0.1)
    return [
        Factors(
            _half(span * np.float32((1 - below - above) / code.high)),
            _half(low + span * np.float32(below)),
        )
        for below in cuts
        for above in cuts
    ]


def _least_squares(code: Code, weights: Floats, importance: Floats, quants: Floats) -> Factors:
    """The factors that suit these quants best."""
    heavy = importance[:, None] * quants
    qw, qq = (heavy * weights).sum(0), (heavy * quants).sum(0)
    nothing = np.zeros_like(qw)
    if not code.has_least:
        return Factors(_half(np.divide(qw, qq, out=nothing.copy(), where=qq > 0)), nothing)
    total = importance.sum()
    q, w = heavy.sum(0) / total, (importance @ weights) / total
    spread = qq - total * q * q
    scale = _half(np.divide(qw - total * q * w, spread, out=nothing, where=spread > 1e-6 * qq))
    return Factors(scale, _half(w - scale * q))


def _better(
    code: Code,
    weights: Floats,
    importance: Floats,
    best: Factors,
    error: Floats,
    other: Factors,
) -> tuple[Factors, Floats]:
    """Row by row the better of two, and its error."""
    its = _error(code, weights, importance, other)
    better = its < error
    scale = np.where(better, other.scale, best.scale)
    least = np.where(better, other.least, best.least)
    return Factors(scale, least), np.where(better, its, error)


def _error(code: Code, weights: Floats, importance: Floats, factors: Factors) -> Floats:
    lost = factors.values(factors.quants(code, weights))
    lost -= weights
    lost *= lost
    total: Floats = importance @ lost
    return total


def _half(values: Floats) -> Floats:
    """Rounded to float16, or to the largest there is."""
    return np.clip(values, -LARGEST, LARGEST).astype(np.float16).astype(np.float32)

"""How near one computation of a model comes to another, and whether that is near enough.

Knows nothing about weights or files: it compares logits that executors give for the same tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Executor, Span

_PIECE_ROWS = 64
"""Rows of logits that are held at once: with 262,144 tokens in a vocabulary, 64 MiB in float32."""
_SOFTMAX_VALUES = 1 << 21
"""Logits that are turned into float64 at once: 16 MiB an array."""

Window = Sequence[int]
"""Consecutive tokens of a text, computed as one prompt."""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured over `tokens` places of a text.

    `kl` is the mean divergence KL(base ‖ other) of the next token's distribution, in nats,
    `kl_standard_error` the mean's, `kl_p99` the quantile that one place in a hundred exceeds.
    `same_top_token` is the share of places where both find the same token likeliest.
    """

    kl: float
    kl_standard_error: float
    kl_p99: float
    same_top_token: float
    tokens: int


class Verdict(msgspec.Struct, frozen=True):
    """What a gate decided, and why, in words."""

    passed: bool
    explanation: str


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """The limits within which another computation counts as the same model.

    `most_kl` in nats, `least_agreement` a share of places from 0 to 1.
    """

    most_kl: float
    least_agreement: float

    def judge(self, quality: Quality) -> Verdict:
        """Pure; a quality that is no number fails."""
        near = quality.kl <= self.most_kl
        agrees = quality.same_top_token >= self.least_agreement
        kl = (
            f"KL divergence {quality.kl:.5f} ± {quality.kl_standard_error:.5f} nats "
            f"is {'within' if near else 'above'} {self.most_kl:g}"
        )
        agreement = (
            f"the same top token at {quality.same_top_token:.1%} of {quality.tokens} places "
            f"{'reaches' if agrees else 'is below'} {self.least_agreement:.1%}"
        )
        return Verdict(near and agrees, f"{kl}; {agreement}")


class Comparison:
    """Gathers what was found place by place. Rows come in pieces, so that few are held at once."""

    def __init__(self) -> None:
        self._kl: list[NDArray[np.float64]] = []
        self._agree: list[NDArray[np.bool_]] = []

    def add(self, base: NDArray[np.float32], other: NDArray[np.float32]) -> None:
        """Logits of the same places: float32 [places, vocabulary] each."""
        self._kl.append(divergence(base, other))
        self._agree.append(base.argmax(-1) == other.argmax(-1))

    def quality(self) -> Quality:
        """Of all that was added, which must be something."""
        kl, agree = np.concatenate(self._kl), np.concatenate(self._agree)
        return Quality(
            kl=float(kl.mean()),
            kl_standard_error=float(kl.std() / len(kl) ** 0.5),
            kl_p99=float(np.quantile(kl, 0.99)),
            same_top_token=float(agree.mean()),
            tokens=len(kl),
        )


def compare(
    base: Executor,
    other: Executor,
    windows: Iterable[Window],
    on_window: Callable[[], None] = lambda: None,
) -> Quality:
    """How near `other` comes to `base` on these windows of tokens, at least one.

    Both must have pages allocated for the longest window (`pages_of`); what is in them is
    overwritten. `on_window` is called after each window.
    """
    comparison = Comparison()
    for window in windows:
        for mine, theirs in zip(
            logits_in_pieces(base, window), logits_in_pieces(other, window), strict=True
        ):
            comparison.add(mine, theirs)
        on_window()
    return comparison.quality()


def logits_in_pieces(executor: Executor, window: Window) -> Iterator[NDArray[np.float32]]:
    """Next-token logits of a window's places, in order: float32 [at most 64, vocabulary].

    A piece may be a view that the next one overwrites.
    """
    tokens, pages = np.array(window, np.int32), np.arange(pages_of(window), dtype=np.int32)
    for start in range(0, len(tokens), _PIECE_ROWS):
        piece = tokens[start : start + _PIECE_ROWS]
        yield executor.forward(
            Batch(
                tokens=piece,
                spans=(Span(start=start, length=len(piece), pages=pages),),
                logit_rows=np.arange(len(piece), dtype=np.int32),
            )
        )


def window_logits(executor: Executor, window: Window) -> NDArray[np.float32]:
    """All of them at once, a new array: float32 [places, vocabulary]."""
    return np.concatenate([piece.copy() for piece in logits_in_pieces(executor, window)])


def pages_of(window: Window) -> int:
    """KV pages that a window takes."""
    return -(-len(window) // PAGE_TOKENS)


def divergence(base: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """KL(base ‖ other) of each row of logits, in nats: float64 [rows]."""
    kl = np.empty(len(base))
    rows = max(1, _SOFTMAX_VALUES // base.shape[-1])
    for at in range(0, len(base), rows):
        p, q = log_softmax(base[at : at + rows]), log_softmax(other[at : at + rows])
        kl[at : at + rows] = (np.exp(p) * (p - q)).sum(-1)
    return kl


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def windows_of(tokens: Sequence[int], length: int) -> list[list[int]]:
    """The text cut into windows of this many tokens; what is left over at the end is dropped,
    unless it is all there is."""
    whole = len(tokens) // length * length
    if not whole:
        return [list(tokens)]
    return [list(tokens[at : at + length]) for at in range(0, whole, length)]


def calibration_text() -> str:
    """A little of many kinds of text, to observe or compare models on where nothing better is
    given. Written for this project and under its licence."""
    return (files("tokenworks.inference") / "texts" / "calibration.txt").read_text(encoding="utf-8")

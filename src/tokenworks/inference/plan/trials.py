"""Tries formats on the model itself: how near its logits stay to those of the file's weights."""

from collections.abc import Sequence

import numpy as np

from tokenworks.inference.executors.base import Batch, Span
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.models.model import Model
from tokenworks.inference.models.rounding import Formats, Rounding, importance_of
from tokenworks.inference.plan.decision import Trial
from tokenworks.inference.quality import (
    Comparison,
    Window,
    pages_of,
    window_logits,
    windows_of,
)

WINDOW: int = 128
_MOST_WINDOWS = 4
_LEAST_WINDOWS = 2
_LOGITS_BYTES = 128 << 20  # of the file's weights, kept to compare with


def windows_for(tokens: Sequence[int], vocabulary: int, context_length: int) -> list[Window]:
    """Parts of a text, spread over it: fewer for a large vocabulary, whose logits take memory."""
    length = min(WINDOW, context_length)
    known = [token for token in tokens if token < vocabulary]
    every = windows_of(known, length)
    fitting = _LOGITS_BYTES // (4 * vocabulary * length)
    count = min(len(every), max(_LEAST_WINDOWS, min(_MOST_WINDOWS, fitting)))
    return [every[i * len(every) // count] for i in range(count)]


class Trials:
    """A model loaded once, whose matrices are packed anew for each trial.

    Raises UnsupportedByKernels for a model that the kernels cannot run.
    """

    def __init__(self, model: Model, windows: Sequence[Window], *, path: str, threads: int) -> None:
        self._model = model
        self._windows = windows
        self._executor = NativeExecutor(model, isa=path, threads=threads, context_length=0)
        self._executor.allocate(max(map(pages_of, windows)))
        self._base = [window_logits(self._executor, window) for window in windows]
        self.output_importance = importance_of(
            np.concatenate([self._hidden_states(window) for window in windows])
        )

    def rounding(self, formats: Formats) -> Rounding:
        important = self.output_importance if "output" in formats else ()
        return Rounding(dict(formats), important)

    def run(self, formats: Formats) -> Trial:
        self._executor.round_to(self._model, self.rounding(formats))
        comparison = Comparison()
        for window, base in zip(self._windows, self._base, strict=True):
            comparison.add(base, window_logits(self._executor, window))
        return Trial(dict(formats), comparison.quality())

    def _hidden_states(self, window: Window) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """What the output head reads: float32 [tokens, hidden]."""
        tokens, pages = np.array(window, np.int32), np.arange(pages_of(window), dtype=np.int32)
        span = Span(start=0, length=len(tokens), pages=pages)
        none = np.empty(0, np.int32)
        return self._executor.encode(Batch(tokens=tokens, spans=(span,), logit_rows=none))

"""When the pieces of an answer came."""

from tokenworks.gateway.backend import Chunk
from tokenworks.telemetry.clock import Clock
from tokenworks.telemetry.metrics import ModelMetrics


class Timing:
    """Times the pieces of each answer and counts all tokens, also when they end early.

    Seconds in the metrics, milliseconds in what is told here.
    """

    def __init__(self, series: ModelMetrics, clock: Clock) -> None:
        self.tokens = 0
        self.first_ms: float | None = None
        self._series = series
        self._now = clock.now
        self._begun = clock.now()
        self._before: dict[int, float] = {}  # an answer's index → when its last piece came
        self._gaps_ms: list[float] = []

    def chunk(self, chunk: Chunk) -> None:
        after = self._now()
        before = self._before.get(chunk.index)
        if before is None:
            self._series.first_token(after - self._begun)
            if self.first_ms is None:
                self.first_ms = (after - self._begun) * 1000
        else:
            self._series.next_token(after - before)
            self._gaps_ms.append((after - before) * 1000)
        self._before[chunk.index] = after
        self.tokens += chunk.tokens
        if chunk.usage is not None:
            self._series.prompt_tokens(chunk.usage.prompt_tokens)
            self._series.cached_tokens(chunk.usage.cached_tokens)

    def end(self) -> None:
        self._series.completion_tokens(self.tokens)

    @property
    def total_ms(self) -> float:
        return (self._now() - self._begun) * 1000

    def gap_ms(self, share: float) -> float | None:
        """The time between pieces that so large a share of them did not exceed."""
        gaps = sorted(self._gaps_ms)
        return gaps[min(len(gaps) - 1, int(share * len(gaps)))] if gaps else None

"""What a request shows of its backend, and what the cheap questions in between show."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from tokenworks.errors import BackendError, QueueFullError, TokenworksError
from tokenworks.gateway.backend import Chunk, FinishReason, Usage
from tokenworks.gateway.upstream.failures import KeyRefused, RateLimited
from tokenworks.gateway.upstream.health import Health
from tokenworks.telemetry.clock import Clock

logger = logging.getLogger(__name__)

REST_S: Final = 1.0
"""How long a backend that had enough is left alone if it names no time."""


class Watch:
    """One request, from its beginning to its end, whichever that is.

    Raises BackendError or QueueFullError if the backend may not be asked now.
    """

    def __init__(self, name: str, health: Health, clock: Clock) -> None:
        if refusal := health.refusal():
            raise BackendError(
                f"The backend {name!r} is not asked now: {refusal}",
                retry_after_s=health.state().retry_after_s,
            )
        if health.full:
            raise QueueFullError(
                f"The backend {name!r} answers as many requests as it may", retry_after_s=REST_S
            )
        self.usage: Usage | None = None
        self.reasons: list[FinishReason] = []
        self._health = health
        self._clock = clock
        self._trial = health.begin()
        self._begun = clock.now()
        self._tokens = self._leading = 0  # all, and those of the first chunk
        self._first = self._last = 0.0

    @property
    def spoke(self) -> bool:
        """Whether a token came."""
        return self._tokens > 0

    @property
    def first_s(self) -> float | None:
        """Seconds until the first token, None if none came."""
        return self._first - self._begun if self._tokens else None

    @property
    def took_s(self) -> float:
        """Seconds since it began."""
        return self._clock.now() - self._begun

    def saw(self, chunk: Chunk) -> None:
        if chunk.tokens:
            self._last = self._clock.now()
            if not self._tokens:
                self._first = self._last
                self._leading = chunk.tokens
            self._tokens += chunk.tokens
        if chunk.finish_reason is not None:
            self.reasons.append(chunk.finish_reason)
            self.usage = chunk.usage or self.usage

    def end(self, error: BaseException | None, *, answered: bool) -> None:
        """`error` is what ended it, if anything did; `answered`: the answer was complete."""
        health = self._health
        if answered:
            health.end("answered", trial=self._trial)
            if self._tokens:
                later = self._tokens - self._leading
                gap = (self._last - self._first) / later if later else None
                health.measured(self._first - self._begun, gap)
        elif isinstance(error, BackendError) and not isinstance(error, RateLimited | KeyRefused):
            health.end("failed", trial=self._trial, reason=error.message)
            if error.retry_after_s:
                health.rest(error.retry_after_s)
        else:
            health.end("neutral", trial=self._trial)
            if isinstance(error, KeyRefused):
                health.trip(error.message)
            elif isinstance(error, RateLimited):
                health.rest(REST_S if error.retry_after_s is None else error.retry_after_s)


async def keep_probing(
    health: Health, opened: asyncio.Event, probe: Callable[[], Awaitable[None]]
) -> None:
    """While the backend is not asked for its failures, ask it something cheap; runs for ever.

    `opened` is set when the breaker opens. `probe` raises BackendError, or another of ours, if it
    is not answered.
    """
    while True:
        wait_s = health.probe_in_s()
        if wait_s is None:
            opened.clear()
            await opened.wait()
            continue
        await asyncio.sleep(wait_s)
        try:
            await probe()
        except TokenworksError as error:
            health.probed(False, error.message)
        else:
            health.probed(True)
            logger.info("a backend answers again; one request will show whether it is well")

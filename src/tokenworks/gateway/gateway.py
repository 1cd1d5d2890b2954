"""One door to every backend: route, stream, measure, and drain at the end."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from difflib import get_close_matches

from tokenworks.errors import EngineError, ModelNotFound
from tokenworks.gateway.backend import Backend, BackendStatus, Chunk, Completion
from tokenworks.telemetry.clock import Clock
from tokenworks.telemetry.metrics import Metrics, ModelMetrics


class Gateway:
    """Owns the backends. Ids compare case-insensitively; the first backend that has one wins."""

    def __init__(self, backends: Sequence[Backend], metrics: Metrics, clock: Clock) -> None:
        self._backends = tuple(backends)
        self._by_model: dict[str, tuple[str, Backend]] = {}
        for backend in self._backends:
            for model in backend.models:
                self._by_model.setdefault(model.casefold(), (model, backend))
        self._metrics = metrics
        self._per_model = {name: metrics.for_model(name) for name, _ in self._by_model.values()}
        self._clock = clock
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._by_model.values())

    @property
    def running(self) -> int:
        """Requests that are being answered, or wait to be."""
        return self._running

    @property
    def draining(self) -> bool:
        return self._draining

    def statuses(self) -> dict[str, BackendStatus]:
        """What each model's backend says of itself."""
        return {name: backend.status() for name, backend in self._by_model.values()}

    def resolve(self, model: str) -> str:
        """The served id that `model` means. Raises ModelNotFound naming what is served."""
        return self._find(model)[0]

    async def start(self) -> None:
        """Return once every backend answers. Raises EngineError if one cannot."""
        await asyncio.gather(*(backend.start() for backend in self._backends))

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new requests and wait for those that run. False if some still do at the end."""
        self._draining = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop every backend; streams that still run end with EngineError."""
        self._draining = True
        await asyncio.gather(*(backend.close() for backend in self._backends))

    async def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
        """Answer. Raises ModelNotFound, RequestError or EngineError, usually before any chunk."""
        name, backend = self._find(request.model)
        if self._draining:
            raise EngineError("This server is shutting down", hint="try again in a moment")
        meter = _Meter(self._per_model[name], self._clock)
        self._enter()
        try:
            async with aclosing(backend.stream(request)) as chunks:
                async for chunk in chunks:
                    meter.chunk(chunk)
                    yield chunk
        finally:
            meter.end()
            self._leave()

    def _find(self, model: str) -> tuple[str, Backend]:
        found = self._by_model.get(model.casefold())
        if found is None:
            model = model[:200]  # what is unknown can have any length
            near = get_close_matches(model.casefold(), self._by_model, n=1)
            guess = f"did you mean {self._by_model[near[0]][0]!r}? " if near else ""
            served = ", ".join(repr(name) for name in self.models)
            raise ModelNotFound(
                f"The model {model!r} is not served here", hint=f"{guess}served: {served}"
            )
        return found

    def _enter(self) -> None:
        self._running += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()


class _Meter:
    """Times the pieces of each answer and counts all tokens, also when they end early."""

    def __init__(self, series: ModelMetrics, clock: Clock) -> None:
        self._series = series
        self._now = clock.now
        self._begun = clock.now()
        self._before: dict[int, float] = {}  # an answer's index → when its last piece came
        self._tokens = 0

    def chunk(self, chunk: Chunk) -> None:
        after = self._now()
        before = self._before.get(chunk.index)
        if before is None:
            self._series.first_token(after - self._begun)
        else:
            self._series.next_token(after - before)
        self._before[chunk.index] = after
        self._tokens += chunk.tokens
        if chunk.usage is not None:
            self._series.prompt_tokens(chunk.usage.prompt_tokens)
            self._series.cached_tokens(chunk.usage.cached_tokens)

    def end(self) -> None:
        self._series.completion_tokens(self._tokens)

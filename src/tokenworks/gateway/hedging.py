"""Two backends for one answer: the second is asked when the first says nothing for a while."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from tokenworks.errors import TokenworksError
from tokenworks.gateway.backend import Chunk, Completion
from tokenworks.gateway.failover import Attempt, Outcome


class Hedge:
    """Streams from whichever of two attempts speaks first; the other is cancelled.

    The second begins `after_s` seconds after the first, or at once if that fails. `on_choice` hears
    the name of the one that speaks. If both fail, the first one's error is raised.
    """

    def __init__(
        self, first: Attempt, second: Attempt, after_s: float, on_choice: Callable[[str], None]
    ) -> None:
        self._attempts = (first, second)
        self._after_s = after_s
        self._on_choice = on_choice

    async def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
        """Answer; `request` is not looked at, since each attempt has what its backend may see."""
        first, second = self._attempts
        runs = [_Run(first)]
        try:
            await asyncio.wait({runs[0].opening}, timeout=self._after_s)
            if not runs[0].spoke:
                runs.append(_Run(second))
            chosen = await _first_that_speaks(runs)
            await asyncio.gather(*(run.close() for run in runs if run is not chosen))
            self._on_choice(chosen.name)
            yield chosen.opening.result()
            async for chunk in chosen.chunks:
                yield chunk
        finally:
            await asyncio.gather(*(run.close() for run in runs))


def hedged(first: Attempt, second: Attempt, after_s: float, outcome: Outcome) -> Attempt:
    """Both as one attempt, which is known by the name of the one that speaks."""

    def chosen(name: str) -> None:
        outcome.tried[-1].name = name

    return replace(first, backend=Hedge(first, second, after_s, chosen))


class _Run:
    """One attempt, whose first chunk is awaited in a task of its own."""

    def __init__(self, attempt: Attempt) -> None:
        self.name = attempt.name
        self.chunks = attempt.backend.stream(attempt.request)
        self.opening: asyncio.Task[Chunk] = asyncio.create_task(self._open())

    @property
    def spoke(self) -> bool:
        done = self.opening.done() and not self.opening.cancelled()
        return done and self.opening.exception() is None

    async def close(self) -> None:
        self.opening.cancel()
        with contextlib.suppress(asyncio.CancelledError, TokenworksError):
            await self.opening
        await self.chunks.aclose()

    async def _open(self) -> Chunk:
        return await anext(self.chunks)


async def _first_that_speaks(runs: list[_Run]) -> _Run:
    """The attempt whose first chunk came first. Raises the first one's error if none has any."""
    waiting = {run.opening for run in runs if not run.opening.done()}
    while not any(run.spoke for run in runs) and waiting:
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    spoken = [run for run in runs if run.spoke]
    if not spoken:
        runs[0].opening.result()
    return spoken[0]

"""Two backends for one answer: the second is asked when the first says nothing for a while."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

from tokenworks.errors import TokenworksError
from tokenworks.gateway.backend import Chunk, Completion
from tokenworks.gateway.failover import Attempt, Outcome, Tried, recorded

OnChoice = Callable[[str, Sequence[Tried]], None]


class Hedge:
    """Streams from whichever of two attempts speaks first; the other is cancelled.

    The second begins `after_s` seconds after the first, or at once if that fails. `on_choice` hears
    once, however the race ends: the name of the one that speaks, or whose error is raised, which is
    the first's if both fail; and how the other one went, if it was asked.
    """

    def __init__(
        self, first: Attempt, second: Attempt, after_s: float, on_choice: OnChoice
    ) -> None:
        self._attempts = (first, second)
        self._after_s = after_s
        self._on_choice = on_choice

    async def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
        """Answer; `request` is not looked at, since each attempt has what its backend may see."""
        runs: list[_Run] = []
        try:
            chosen = await self._race(runs)
            yield chosen.opening.result()
            async for chunk in chosen.chunks:
                yield chunk
        finally:
            await asyncio.gather(*(run.close() for run in runs))

    async def _race(self, runs: list["_Run"]) -> "_Run":
        first, second = self._attempts
        chosen = _Run(first)
        runs.append(chosen)
        try:
            await asyncio.wait({chosen.opening}, timeout=self._after_s)
            if not chosen.spoke:
                runs.append(_Run(second))
            chosen = await _first_that_speaks(runs)
            await asyncio.gather(*(run.close() for run in runs if run is not chosen))
            return chosen
        finally:
            others = [run.tried() for run in runs if run is not chosen]
            self._on_choice(chosen.name, others)


def hedged(first: Attempt, second: Attempt, after_s: float, outcome: Outcome) -> Attempt:
    """Both as one attempt, which is known by the name of the one that speaks. The other one stands
    before it in the outcome: what it was asked costs money too."""

    def chosen(name: str, others: Sequence[Tried]) -> None:
        outcome.tried[-1].name = name
        outcome.tried[-1:-1] = others

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

    def tried(self) -> Tried:
        """How it went, for one that is not chosen."""
        if self.spoke:
            said = self.opening.result()
            return Tried(self.name, usage=said.usage, tokens=said.tokens, overtaken=True)
        failed = self.opening.done() and not self.opening.cancelled()
        error = self.opening.exception() if failed else None
        if error is None:
            return Tried(self.name, overtaken=True)
        return Tried(self.name, error=recorded(error))

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

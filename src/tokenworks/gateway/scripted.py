"""The fake backend: tells a script, with delays and faults on demand."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from tokenworks.gateway.backend import (
    BackendStatus,
    Chunk,
    Completion,
    FinishReason,
    TokenLogprob,
    Usage,
)


class ScriptedBackend:
    """Every piece of the script is one token of each answer; a chunk among them goes out as it is.
    Sampling, stop strings and echo are not honoured.

    `fault` is raised before piece number `fault_at`. The counters say what really happened.
    """

    def __init__(
        self,
        script: Sequence[str | Chunk] = ("Hello", ", ", "world", "!"),
        *,
        model: str = "scripted",
        delay_s: float = 0.0,
        fault: Exception | None = None,
        fault_at: int = 0,
        abilities: Sequence[str] = (),
        reason: FinishReason = "stop",
    ) -> None:
        self.models = (model,)
        self.abilities = frozenset({"extended", *abilities})
        self.requests: list[Completion] = []
        self.faults_fired = self.completed = self.closed_early = 0
        self._script, self._delay_s = tuple(script), delay_s
        self._fault, self._fault_at = fault, fault_at
        self._reason = reason
        self._status = BackendStatus(state="ready")

    async def start(self) -> None:
        self._status = BackendStatus(state="ready")

    async def close(self) -> None:
        self._status = BackendStatus(state="stopped")

    def status(self) -> BackendStatus:
        return self._status

    async def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        limit = len(self._script) if request.max_tokens is None else request.max_tokens
        pieces = self._script[:limit]
        try:
            for index, piece in enumerate(pieces):
                await asyncio.sleep(self._delay_s)
                if self._fault is not None and index == self._fault_at:
                    self.faults_fired += 1
                    raise self._fault
                if isinstance(piece, Chunk):
                    yield piece
                    continue
                logprobs = _logprobs(piece, request.logprobs)
                for choice in range(request.n):
                    yield Chunk(text=piece, index=choice, tokens=1, logprobs=logprobs)
            self.completed += 1
        except (GeneratorExit, asyncio.CancelledError):
            self.closed_early += 1
            raise
        cut = len(pieces) < len(self._script)
        reason: FinishReason = "length" if cut else self._reason
        for choice in range(request.n - 1):
            yield Chunk(text="", index=choice, finish_reason=reason)
        usage = Usage(prompt_tokens=1, completion_tokens=len(pieces) * request.n)
        yield Chunk(text="", index=request.n - 1, finish_reason=reason, usage=usage)


def _logprobs(piece: str, wanted: int | None) -> tuple[TokenLogprob, ...]:
    if wanted is None:
        return ()
    token = TokenLogprob(text=piece, raw=piece.encode(), logprob=-0.5)
    others = [TokenLogprob(text=f"{n}", raw=b"%d" % n, logprob=-1.0 - n) for n in range(1, wanted)]
    return (TokenLogprob(text=piece, raw=token.raw, logprob=-0.5, alternatives=(token, *others)),)

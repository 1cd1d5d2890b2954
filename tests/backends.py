"""The engine backend with real worker processes, as tests of the gateway use it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from tokenworks.fleet.processes import Backoff
from tokenworks.gateway.backend import Chunk, Completion
from tokenworks.gateway.engine import EngineBackend
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.metrics import Metrics

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@asynccontextmanager
async def backend_of(model: Path, **changes: Any) -> AsyncIterator[EngineBackend]:
    wanted: dict[str, Any] = {"executor": "reference", "threads": 1, **changes}
    settings = EngineSettings(model_path=str(model), model_id="tiny", **wanted)
    backend = EngineBackend(
        settings, metrics=Metrics(), backoff=Backoff(first_s=0.01, cap_s=0.05, healthy_s=60)
    )
    try:
        await backend.start()
        yield backend
    finally:
        await backend.close()


def completion(number: int = 0, **changes: Any) -> Completion:
    wanted = {"prompt": f"the story of number {number}", "max_tokens": 40, "seed": number}
    return Completion(request_id=f"test-{number}", model="tiny", **(wanted | changes))


async def answer(backend: EngineBackend, request: Completion) -> list[Chunk]:
    return [chunk async for chunk in backend.stream(request)]


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def worker_pid(backend: EngineBackend) -> int | None:
    pid = backend.status().details.get("worker_pid")
    return int(pid) if pid else None


def cached(chunks: list[Chunk]) -> int:
    usage = chunks[-1].usage
    assert usage is not None
    return usage.cached_tokens

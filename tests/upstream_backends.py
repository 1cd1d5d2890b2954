"""Backends reached by HTTP, as tests use them against the upstream server."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tokenworks.gateway.backend import Chunk, Completion
from tokenworks.gateway.upstream.backend import UpstreamBackend
from tokenworks.gateway.upstream.health import BreakerSettings
from tokenworks.gateway.upstream.settings import Limits, UpstreamSettings
from upstream_server import UpstreamServer

T = TypeVar("T")
DIALECTS = ("openai", "anthropic")
KEY = "sk-canary-0123456789"
PATIENT = BreakerSettings(consecutive=10**6, least_requests=10**6)
"""For tests of single requests: the breaker stays closed."""


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def settings_of(
    server: UpstreamServer, dialect: str = "openai", **changes: Any
) -> UpstreamSettings:
    given: dict[str, Any] = {
        "name": "there",
        "url": server.url if dialect == "openai" else server.address,
        "models": {"ours": "theirs"},
        "tier": "site",
        "dialect": dialect,
        "abilities": ("tools", "schema", "vision"),
        "limits": Limits(connect_s=5, first_byte_s=5, idle_s=5),
    }
    return UpstreamSettings(**(given | changes))


@asynccontextmanager
async def backend_of(
    server: UpstreamServer,
    dialect: str = "openai",
    *,
    how: dict[str, Any] | None = None,
    **changes: Any,
) -> AsyncIterator[UpstreamBackend]:
    given = {"breaker": PATIENT, **(how or {})}
    backend = UpstreamBackend(settings_of(server, dialect, **changes), **given)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.close()


def completion(**changes: Any) -> Completion:
    given: dict[str, Any] = {
        "request_id": "req-1",
        "model": "ours",
        "messages": [{"role": "user", "content": "Hi"}],
    }
    return Completion(**(given | changes))


async def answer(backend: UpstreamBackend, **changes: Any) -> list[Chunk]:
    return [chunk async for chunk in backend.stream(completion(**changes))]


def told(server: UpstreamServer, dialect: str = "openai", **changes: Any) -> list[Chunk]:
    async def main() -> list[Chunk]:
        async with backend_of(server, dialect, **changes) as backend:
            return await answer(backend)

    return run(main())


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


async def until(condition: Any, within_s: float = 5.0) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < within_s
        await asyncio.sleep(0.002)

"""Server-sent events, written lean (once a token), and work that ends when the client leaves."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tokenworks.errors import TokenworksError
from tokenworks.gateway.backend import Chunk
from tokenworks.server.guard import ClientGone
from tokenworks.server.outlet import Outlet
from tokenworks.server.replies import Failure, failure_of

logger = logging.getLogger(__name__)

T = TypeVar("T")


class EventShape(Protocol):
    """One API's events as bytes."""

    def opening(self) -> bytes:
        """What goes before the first piece; may be empty."""
        ...

    def piece(self, chunk: Chunk) -> bytes:
        """The events of one chunk; may be empty."""
        ...

    def closing(self) -> bytes:
        """What ends a whole answer."""
        ...

    def failure(self, failure: Failure) -> bytes:
        """What ends an answer that broke off."""
        ...


class OpenAIShape:
    """How both of OpenAI's APIs end: each event is `data: …` and an empty line."""

    def closing(self) -> bytes:
        return b"data: [DONE]\n\n"

    def failure(self, failure: Failure) -> bytes:
        return b"data: " + failure.body() + b"\n\n"


class EventStream(Response):
    """Sends chunks as events. What fails before the first chunk is raised, and so gets a status.

    `before_end` is awaited once the answer is whole, before the client is told so.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[Chunk, None],
        shape: EventShape,
        *,
        before_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._chunks = chunks
        self._shape = shape
        self._before_end = before_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await unless_client_leaves(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._chunks) as chunks:
            data = self._shape.opening() + self._shape.piece(await anext(chunks))
            outlet = Outlet(send, self.raw_headers)
            try:
                outlet.put(data)
                await self._put_all(chunks, outlet)
                await outlet.end()
            finally:
                outlet.cancel()

    async def _put_all(self, chunks: AsyncGenerator[Chunk, None], outlet: Outlet) -> None:
        piece = self._shape.piece
        try:
            async for chunk in chunks:
                if data := piece(chunk):
                    outlet.put(data)
                    if outlet.full:
                        await outlet.room()
            if self._before_end is not None:
                await self._before_end()
            outlet.put(self._shape.closing())
        except ClientGone:
            raise
        except Exception as error:
            failure = failure_of(error)
            if not isinstance(error, TokenworksError):
                logger.exception("a stream broke off")
            outlet.put(self._shape.failure(failure))


async def unless_client_leaves(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`; cancel it and raise ClientGone as soon as the client disconnects.

    The request's body must have been read.
    """
    worker = asyncio.current_task()
    assert worker is not None
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        worker.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        # Whoever else cancels this, as a server that stops does, counts above our one.
        if left and worker.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        watcher.cancel()

"""Servers that say exactly the bytes a test wants, and the gateway's HTTP client to ask them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tokenworks.gateway.upstream.address import endpoint_of
from tokenworks.gateway.upstream.connection import Connection
from tokenworks.gateway.upstream.http import HttpClient, Request

T = TypeVar("T")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

GET = Request(method="GET", path="/x", fields={})
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
WITHIN_S = 5.0


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@asynccontextmanager
async def server(handler: Handler, **how: Any) -> AsyncIterator[str]:
    """Yields its address; afterwards no connection is left open."""
    open_now: set[asyncio.StreamWriter] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            open_now.discard(writer)
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, **how)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield f"{'https' if how.get('ssl') else 'http'}://127.0.0.1:{port}"
        listening.close()
        for _ in range(200):
            if not open_now:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{len(open_now)} connections were left open")


def saying(*replies: bytes, then_close: bool = False) -> Handler:
    """Each request gets the next reply, on any connection."""
    left = list(replies)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(left.pop(0))
            await writer.drain()
            if then_close:
                return
        await reader.read()

    return handler


@asynccontextmanager
async def client_of(url: str, **how: Any) -> AsyncIterator[HttpClient]:
    client = HttpClient(endpoint_of(url, allow_private=True), **how)
    try:
        yield client
    finally:
        client.close()


async def ask(client: HttpClient, request: Request = GET) -> tuple[int, bytes]:
    by = asyncio.get_running_loop().time() + WITHIN_S
    connection = await client.request(request, by=by)
    try:
        return connection.status, await whole(connection, by)
    finally:
        client.give_back(connection)


async def whole(connection: Connection, by: float) -> bytes:
    body = b""
    while data := await connection.read(by):
        body += data
    return body

"""Stands between a client and a server, and breaks off chosen answers in their middle.

Answers are chosen by the `x-request-id` of their request. Each is broken off once: whoever asks
again, here or at another such proxy with the same orders, is answered.
"""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_ID: Final = re.compile(rb"(?i)\r\nx-request-id: *([^\r\n]+)")
_PIECE: Final = 1 << 16


@dataclass
class Order:
    """Break off after so many events and bytes; `kill` is how, else the connection is reset."""

    events: int
    further_bytes: int = 0
    kill: bool = False
    done_by: str = ""  # the proxy at which it happened


@dataclass
class Orders:
    by_id: dict[str, Order] = field(default_factory=dict)

    def due(self, identity: str) -> Order | None:
        order = self.by_id.get(identity)
        return None if order is None or order.done_by else order


class CuttingProxy:
    """`kill` ends the server behind it at once."""

    def __init__(self, name: str, orders: Orders, kill: Callable[[], None]) -> None:
        self.name, self.port, self.target = name, 0, 0
        self._orders, self._kill = orders, kill
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        await _Line(self, reader, writer, there, back).run()

    def due(self, identity: str) -> Order | None:
        return self._orders.due(identity)

    def carry_out(self, order: Order) -> bool:
        """Whether the connection is to be reset: a server that is killed ends it itself."""
        order.done_by = self.name
        if order.kill:
            self._kill()
        return not order.kill


class _Line:
    """One connection of a client, and the one behind it."""

    def __init__(
        self,
        proxy: CuttingProxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._reader, self._writer, self._there, self._back = reader, writer, there, back
        self._order: Order | None = None
        self._seen = 0

    async def run(self) -> None:
        works = {asyncio.create_task(self._up()), asyncio.create_task(self._down())}
        try:
            await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
            for writer in (self._writer, self._back):
                writer.close()

    async def _up(self) -> None:
        while data := await self._reader.read(_PIECE):
            if found := _ID.search(data):
                self._order, self._seen = self._proxy.due(found[1].decode()), 0
            self._back.write(data)
            await self._back.drain()

    async def _down(self) -> None:
        while data := await self._there.read(_PIECE):
            order = self._order
            if order is None or order.done_by or (end := self._end(data, order)) is None:
                self._writer.write(data)
            else:
                self._writer.write(data[: end + order.further_bytes])
                with contextlib.suppress(ConnectionError):
                    await self._writer.drain()
                if self._proxy.carry_out(order):
                    self._reset()
                    return
            await self._writer.drain()

    def _end(self, data: bytes, order: Order) -> int | None:
        """Where the last event ends that is to be passed on; None: not in this piece."""
        at = 0
        while (found := data.find(b"\n\n", at)) >= 0:
            at = found + 2
            self._seen += 1
            if self._seen >= order.events:
                return at
        return None

    def _reset(self) -> None:
        plain = self._writer.get_extra_info("socket")
        linger = struct.pack("ii", 1, 0)  # close sends a reset, not a farewell
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()

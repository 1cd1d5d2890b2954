"""Sends a reply from a task of its own: what is there at once leaves in one piece.

A write costs more than all else that is done for a piece of a stream. Nothing waits for more to
come: what is put in leaves in the event loop's next round.
"""

import asyncio
from typing import Final

from starlette.types import Send

from tokenworks.server.guard import ClientGone

MOST_WAITING: Final = 256 * 1024
"""Bytes for a client that reads slowly; whoever puts in more waits."""

STALLED_SECONDS: Final = 60.0
"""How long a client may read nothing of what waits: it holds a place at a backend meanwhile."""


class Outlet:
    """`put`, and `await room()` where `full`; then `await end()`, or `cancel()`.

    The head leaves with the first of it, the end with the last.
    """

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]], status: int = 200) -> None:
        self._send = send
        self._head = {"type": "http.response.start", "status": status, "headers": headers}
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = False
        self._changed, self._emptied = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._pump(), name="outlet")

    @property
    def full(self) -> bool:
        return self._size > MOST_WAITING

    def put(self, data: bytes) -> None:
        """Raises ClientGone, or what else ended the sending."""
        if self._task.done():
            self._task.result()
            raise ClientGone
        self._parts.append(data)
        self._size += len(data)
        self._changed.set()

    async def room(self) -> None:
        """Return once the client has read what waited. Raises ClientGone for one that does not."""
        self._emptied.clear()
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await self._emptied.wait()
        except TimeoutError:
            raise ClientGone from None

    async def end(self) -> None:
        """Return once all has left. Raises what sending raised."""
        self._ended = True
        self._changed.set()
        await self._task

    def cancel(self) -> None:
        self._task.cancel()

    async def _pump(self) -> None:
        try:
            await self._send(self._head)
            more = True
            while more:
                if not self._parts and not self._ended:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                data, more = b"".join(self._parts), not self._ended
                self._parts.clear()
                await self._send({"type": "http.response.body", "body": data, "more_body": more})
                self._size = sum(map(len, self._parts))
                self._emptied.set()
        finally:
            self._emptied.set()

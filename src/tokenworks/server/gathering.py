"""A transport whose writes of one round of the event loop leave together."""

import asyncio
import contextlib
from typing import Any


class Gathering:
    """uvloop writes at once, and each write that wakes a client costs as much as a dozen events of
    a stream. Nothing waits for more to come.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._flush()
        self._transport.set_protocol(protocol)

    def _flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            # uvloop may have closed it and not said so yet: the client is gone, as we will be told.
            with contextlib.suppress(RuntimeError):
                self._transport.write(data)

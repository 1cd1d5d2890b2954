"""HTTP/1.1 as uvicorn speaks it, with a bound on what comes before and after a body."""

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tokenworks.server.gathering import Gathering

MOST_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0
"""How long a head may take, and the rest of a body whose request was answered before it came."""


class BoundedHead(HttpToolsProtocol):
    """Ends a connection whose request line, headers or trailers do not end.

    The parser keeps them all in memory and has no limit of its own. Counted are the bytes that
    came since the last headers, body or message were complete.

    A request that asks for another protocol is the last one of its connection: the parser reads no
    body of it, so that a body's bytes would be taken for the next request.
    """

    _open_bytes = 0
    _refused = _is_last = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, Gathering(transport, self.loop)))
        self._await_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_come()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_last:
            return
        self._open_bytes += len(data)
        super().data_received(data)
        if self._open_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request line and headers are too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_rest()

    def on_headers_complete(self) -> None:
        self._open_bytes = 0
        self._has_come()
        if self.parser.should_upgrade():
            self._is_last = True
            if any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
                self._refused = True
                self.send_400_response("A request with an Upgrade header may have no body here.")
                return
        super().on_headers_complete()
        if self._is_last:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._open_bytes = 0
        if self._refused:
            return
        super().on_body(body)
        if self.cycle.response_complete:
            self._await_rest()

    def on_message_complete(self) -> None:
        self._open_bytes = 0
        self._has_come()
        if not self._refused:
            super().on_message_complete()

    def _await_rest(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _has_come(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()

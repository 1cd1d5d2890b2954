"""One HTTP/1.1 connection to a backend: bytes out, one reply in, at once as it comes.

Every wait has a time at which it ends; every size has a limit. A reply that was not read to its end
leaves a connection that nobody may use again.
"""

import asyncio
from typing import Final, cast

import httptools

MOST_HEADER_BYTES: Final = 64 * 1024
MOST_HEADERS: Final = 128
MOST_WAITING_BYTES: Final = 256 * 1024
"""Beyond this, what a backend sends waits in the network: its reader is slower than it."""


class WireError(Exception):
    """The connection failed. `untouched`: it broke before a byte of a reply came."""

    def __init__(self, message: str, untouched: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.untouched = untouched


class _BadHead(Exception):  # noqa: N818  (reads as the fact it states)
    pass


class Connection(asyncio.Protocol):
    """At most one exchange at a time: `send`, `head`, `read` until it gives nothing, and again.

    Times are those of the running loop's clock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}  # lower case; of several, the last
        self.closed = False
        self.complete = True  # no reply is awaited
        self.idle_since = 0.0
        self.exchanges = 0
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._error: tuple[str, bool] | None = None  # what WireError is told
        self._pieces: list[bytes] = []
        self._waiting_bytes = self._head_bytes = 0
        self._has_head = self._until_close = self._paused = False
        self._keeps_alive = True
        self._waiter: asyncio.Future[None] | None = None
        self._ends = 0.0  # when the wait that is going on ends
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # An exchange, in the order in which it is called

    def send(self, request: bytes) -> None:
        """Begin an exchange: `request` is its head and body. The one before is complete."""
        self.status, self.headers = 0, {}
        self.complete = self._has_head = self._until_close = self._keeps_alive = False
        self._head_bytes = 0
        self.exchanges += 1
        self._parser = httptools.HttpResponseParser(self)
        if self._transport is None or self.closed:
            self._fail("the connection was closed", untouched=True)
        else:
            self._transport.write(request)

    async def head(self, by: float) -> None:
        """Wait for `status` and `headers`. Raises WireError."""
        while not self._has_head:
            await self._wait(by)

    async def read(self, by: float) -> bytes:
        """What has come of the body, waiting for some; nothing at its end. Raises WireError."""
        while not self._pieces:
            if self.complete:
                self._stop_timer()
                return b""
            await self._wait(by)
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._waiting_bytes = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow."""
        unusable = self.closed or self._pieces or self._error
        return self.complete and self._keeps_alive and not unusable

    def abort(self) -> None:
        """Close at once: the backend learns that nobody waits for its answer."""
        self._stop_timer()
        self.closed = True
        if not self.complete and self._error is None:
            self._error = ("the connection was closed from this side", False)
        if self._transport is not None:
            self._transport.abort()

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self.complete:
            self.abort()  # nobody asked: this would be taken for the next request's reply
            return
        if not self._has_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("what it sent is not HTTP, or more than a reply may be")
            return
        if not self._has_head and self._head_bytes > MOST_HEADER_BYTES:
            self._fail("what it sent before its answer has no end")
        elif self._waiting_bytes > MOST_WAITING_BYTES and self._transport and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._until_close and error is None and self._error is None:
            self.complete = True
        elif not self.complete:
            self._fail("the connection broke", untouched=not self._head_bytes)
        self._wake()

    # What the parser calls

    def on_message_begin(self) -> None:
        if self.complete:
            raise _BadHead  # a second reply to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MOST_HEADERS:
            raise _BadHead
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._has_head = True
            sized = "content-length" in self.headers or self.status in (204, 304)
            self._until_close = not sized and "transfer-encoding" not in self.headers
        else:
            self.headers = {}  # of a reply that only says that the real one is to come

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._waiting_bytes += len(body)

    def on_message_complete(self) -> None:
        if self._has_head and self._parser is not None:
            self.complete = True
            self._keeps_alive = self._parser.should_keep_alive()  # forgotten once it returns

    # Waiting

    async def _wait(self, by: float) -> None:
        if self._error is not None:
            raise WireError(*self._error)
        self._ends = by
        if self._timer is None or self._timer_at > by:
            self._stop_timer()
            self._timer, self._timer_at = self._loop.call_at(by, self._expire), by
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _expire(self) -> None:
        """A wait may have ended and another begun since the timer was set: it is set once again."""
        self._timer = None
        if self._waiter is None:
            return
        if self._ends > self._loop.time() + 1e-3:
            self._timer, self._timer_at = self._loop.call_at(self._ends, self._expire), self._ends
        else:
            self._fail("it said nothing in time")

    def _fail(self, message: str, *, untouched: bool = False) -> None:
        if self._error is None:
            self._error = (message, untouched)
        self.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

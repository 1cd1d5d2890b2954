"""The asyncio end of an engine worker: requests out, streams of tokens in. Starts no process.

ours, theirs = socket.socketpair()
(start `worker_command(theirs.fileno())` with `encode_settings(settings)` on its stdin and
theirs.fileno() among its open files, then close `theirs`)
client = await EngineClient.connect(ours)
await client.ready()
async with aclosing(client.generate(request)) as tokens: ...
"""

import asyncio
import socket
import sys
from collections import deque
from collections.abc import AsyncGenerator
from typing import cast

import msgspec

from tokenworks.errors import (
    ContextLengthError,
    DeadlineError,
    EngineError,
    EngineLost,
    QueueFullError,
    RequestError,
    TokenworksError,
)
from tokenworks.inference.framing import MAX_MESSAGE_BYTES, Unframer, frame
from tokenworks.inference.messages import (
    Cancel,
    Failed,
    FromWorker,
    Generate,
    Ready,
    Refused,
    Scores,
    Step,
    Token,
)
from tokenworks.inference.settings import EngineSettings

Reply = Token | Scores
"""What comes for a request: scores of its prompt if it asks for them, then tokens."""


def worker_command(socket_fd: int) -> list[str]:
    """The command of a worker that serves the inherited Unix socket with this number."""
    # -P: a file in the current folder must not pass for a module of ours.
    return [sys.executable, "-P", "-m", "tokenworks.inference.worker", str(socket_fd)]


def encode_settings(settings: EngineSettings) -> bytes:
    """What the worker expects on its standard input."""
    return msgspec.json.encode(settings)


class _Stream:
    """Replies to one request on their way from the connection to its reader.

    `open` holds the ids, its own and its siblings', whose answers go on.
    """

    def __init__(self, ids: list[str]) -> None:
        self.open = set(ids)
        self.error: TokenworksError | None = None
        self._replies: deque[Reply] = deque()
        self._news = asyncio.Event()

    def add(self, reply: Reply) -> None:
        self._replies.append(reply)
        self._news.set()

    def fail(self, error: TokenworksError) -> None:
        self.error = error
        self._news.set()

    async def next(self) -> Reply:
        while not self._replies:
            if self.error:
                raise self.error
            self._news.clear()
            await self._news.wait()
        return self._replies.popleft()


class EngineClient(asyncio.Protocol):
    """One connection to one worker. When the worker is gone, so is the client: make another."""

    def __init__(self) -> None:
        self._unframer = Unframer(msgspec.msgpack.Decoder(FromWorker))
        self._transport: asyncio.Transport | None = None
        self._streams: dict[str, _Stream] = {}
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._lost_by: str | None = None
        self.load = Step(tokens=[], running=0, waiting=0, pages_used=0)
        """The figures of the latest step: `running`, `waiting`, `pages_used`."""

    @classmethod
    async def connect(cls, connection: socket.socket) -> "EngineClient":
        """Take over our end of the socket pair."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_unix_connection(cls, sock=connection)
        return client

    @property
    def lost(self) -> bool:
        """Whether the worker is gone."""
        return self._lost_by is not None

    async def ready(self) -> Ready:
        """What the worker serves, once it does. Raises EngineLost if it died before."""
        return await asyncio.shield(self._ready)

    async def generate(self, request: Generate) -> AsyncGenerator[Reply, None]:
        """The answer's tokens, and its siblings'; the last one of each has a finish reason.

        Ids must be unique among the requests in flight. Closing the generator cancels the request.
        Raises QueueFullError, DeadlineError, ContextLengthError or RequestError before the first
        token if the worker refuses or the deadline passes; EngineLost when it is gone (resume
        elsewhere with what came so far in `generated`); EngineError if the model computed no
        usable numbers.
        """
        stream = self._open(request)
        try:
            while stream.open:
                reply = await stream.next()
                if reply.request_id not in stream.open:
                    continue
                if isinstance(reply, Token) and reply.finish_reason is not None:
                    stream.open.remove(reply.request_id)
                    del self._streams[reply.request_id]
                yield reply
        finally:
            for request_id in list(stream.open):
                self.cancel(request_id)

    def cancel(self, request_id: str) -> None:
        """Nothing more is wanted of this answer, nor sent; ids that are not open are ignored."""
        stream = self._streams.pop(request_id, None)
        if stream is not None:
            stream.open.discard(request_id)
            self._write(frame(Cancel(request_id=request_id)))

    async def close(self) -> None:
        """Let go of the worker, which then exits; open streams raise EngineLost."""
        self._lose("closed by us")
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport, not its type.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._unframer.feed(data):
                self._handle(message)
        except EngineError as error:
            self._lose(error.message)
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(str(exc) if exc else "the connection closed")

    def _open(self, request: Generate) -> _Stream:
        if self._lost_by is not None:
            raise self._lost_error()
        ids = [request.request_id, *(sibling.request_id for sibling in request.siblings)]
        for used in ids:
            if used in self._streams:
                raise RequestError(f"request id {used!r} is in use")
        try:
            message = frame(request)
        except EngineError as error:
            raise ContextLengthError(
                f"{len(request.prompt)} prompt tokens take over {MAX_MESSAGE_BYTES} bytes",
                param="prompt",
            ) from error
        stream = _Stream(ids)
        self._streams.update(dict.fromkeys(ids, stream))
        self._write(message)
        return stream

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _handle(self, message: FromWorker) -> None:
        match message:
            case Step():
                self._deliver(message)
            case Refused():
                self._fail(message.request_id, _as_error(message))
            case Ready():
                if not self._ready.done():
                    self._ready.set_result(message)

    def _deliver(self, step: Step) -> None:
        self.load = step
        for scores in step.scores:
            if stream := self._streams.get(scores.request_id):
                stream.add(scores)
        for token in step.tokens:
            if stream := self._streams.get(token.request_id):
                stream.add(token)
        for failed in step.failed:
            self._fail(failed.request_id, _as_failure(failed))

    def _fail(self, request_id: str, error: TokenworksError) -> None:
        if stream := self._streams.get(request_id):
            stream.fail(error)

    def _lose(self, reason: str) -> None:
        if self._lost_by is not None:
            return
        self._lost_by = reason
        if not self._ready.done():
            self._ready.set_exception(self._lost_error())
            self._ready.exception()  # seen: nobody may be waiting for it
        for stream in self._streams.values():
            stream.fail(self._lost_error())

    def _lost_error(self) -> EngineLost:
        return EngineLost(f"the engine worker is gone: {self._lost_by}")


_RETRY_AFTER_DEADLINE_S = 1.0
"""After a deadline that passed: how long others will need is not known at this end."""


def _as_failure(failed: Failed) -> TokenworksError:
    if failed.reason == "deadline":
        return DeadlineError(failed.message, retry_after_s=_RETRY_AFTER_DEADLINE_S)
    return EngineError(failed.message)


def _as_error(refused: Refused) -> RequestError:
    match refused.reason:
        case "queue_full":
            return QueueFullError(refused.message, retry_after_s=refused.retry_after_s or 1.0)
        case "deadline":
            return DeadlineError(refused.message, retry_after_s=refused.retry_after_s or 1.0)
        case "too_long":
            return ContextLengthError(refused.message, param="max_tokens")
        case "invalid":
            return RequestError(refused.message)

"""One connection of the tests' upstream server: reads requests, answers them as scripted."""

import asyncio
import contextlib
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any, Protocol

import upstream_replies as replies
from upstream_replies import Script

GARBAGE = bytes(range(1, 256)) * 4


BEFORE_THE_HEAD = ("reset", "stall", "garbage", "loris", "long_head")


class ClientLeft(Exception):  # noqa: N818  (reads as the fact it states)
    """Nobody is there to answer."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes
    connection: int  # its number: a connection that is kept has one


class Reader(asyncio.StreamReader):
    """Tells at once when the client has left, also to whoever does not read."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.left = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.left.set()

    def set_exception(self, exc: BaseException) -> None:
        super().set_exception(exc)
        self.left.set()


class Server(Protocol):
    """What an exchange is told, and what it counts."""

    script: Script
    key: str
    remember: bool
    asked: list[Asked]
    answered: int
    left_early: int

    def script_for(self, asked: Asked) -> Script: ...


class Exchange:
    def __init__(
        self,
        server: Server,
        reader: Reader,
        writer: asyncio.StreamWriter,
        number: int,
    ) -> None:
        self._server, self._reader, self._writer = server, reader, writer
        self._number = number
        self._split = 0

    async def answer_one(self) -> bool:
        """Whether another request may follow."""
        asked = await self._read()
        if asked is None:
            return False
        if self._server.remember:
            self._server.asked.append(asked)
        if asked.path == "/script":
            self._server.script = Script.of(asked.body)
            await self._whole(200, {"ok": True})
            return True
        if refusal := self._refusal(asked):
            await self._whole(401, refusal)
            return True
        script = self._server.script_for(asked)
        self._split = script.split
        try:
            going_on = await self._answer(asked, script)
        except (ClientLeft, ConnectionError):
            self._server.left_early += 1
            raise
        self._server.answered += 1
        return going_on

    async def _read(self) -> Asked | None:
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        raw = await self._reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = first.split(" ")
        body = json.loads(raw) if raw else None
        return Asked(
            method=method, path=path, headers=headers, body=body, raw=raw, connection=self._number
        )

    def _refusal(self, asked: Asked) -> dict[str, Any] | None:
        given = asked.headers.get("x-api-key") or asked.headers.get("authorization", "")[7:]
        if not self._server.key or given == self._server.key:
            return None
        return replies.error(f"Incorrect API key provided: {given}", "invalid_api_key")

    async def _answer(self, asked: Asked, script: Script) -> bool:
        if script.fault == "status":
            said = replies.error(script.message, "from_script")
            await self._whole(script.status, said, dict(script.headers))
            return True
        if asked.path.endswith("/models"):
            await self._whole(200, replies.models(asked.headers))
            return True
        if asked.path.endswith("/embeddings"):
            await self._whole(200, replies.embeddings(asked.body))
            return True
        if not asked.body.get("stream"):
            await self._whole(200, replies.whole(asked.path, asked.body, script))
            return True
        return await self._stream(replies.events(asked.path, asked.body, script), script)

    async def _stream(self, events: list[bytes], script: Script) -> bool:
        if script.fault in BEFORE_THE_HEAD and not script.at:
            await self._break(script, in_body=False)
            return False
        kind = "text/html" if script.fault == "wrong_type" else "text/event-stream"
        fields = {"content-type": kind, "transfer-encoding": "chunked", **script.headers}
        if script.until_close:
            del fields["transfer-encoding"]
            fields["connection"] = "close"
        await self._send(_head(200, fields))
        for index, event in enumerate(events):
            if script.delay_s and index:
                await self._pause(script.delay_s)
            if script.fault and index == script.at and script.fault != "wrong_type":
                await self._break(script, in_body=True)
                return False
            data = event.replace(b"\n", script.line_end)
            await self._send(data if script.until_close else _chunk(data))
        if script.until_close:
            return False
        await self._send(b"0\r\n\r\n")
        return True

    async def _break(self, script: Script, *, in_body: bool) -> None:
        wrap = _chunk if in_body else bytes
        said = {
            "garbage": wrap(GARBAGE + b"\n\n"),
            "bad_chunk": b"zz\r\ndata: {}\r\n",
            "truncated_json": wrap(b'data: {"choices":[{"index":0,"del\n\n'),
            "long_head": b"HTTP/1.1 200 OK\r\n" + b"x-more: " + b"y" * (1 << 20),
            "error_event": wrap(replies.error_event(script)),
            "close": b"",  # as of a process that is ended: the system says goodbye, HTTP does not
        }
        if script.fault in said:
            await self._send(said[script.fault])
        elif script.fault == "reset":
            self._reset()
        elif script.fault == "stall":
            await self._pause(None)
        elif script.fault == "loris":
            for _ in range(100_000):
                await self._send(wrap(b"x"))
                await self._pause(script.delay_s or 0.01)
        elif script.fault == "long_line":
            for _ in range(16 * script.size_mb):
                await self._send(wrap(b"x" * 65536))
        else:
            raise ValueError(f"no fault is called {script.fault!r}")

    def _reset(self) -> None:
        plain = self._writer.get_extra_info("socket")
        linger = struct.pack("ii", 1, 0)  # close sends a reset, not a farewell
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()

    async def _pause(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reader.left.wait(), seconds)
            raise ClientLeft

    async def _send(self, data: bytes) -> None:
        if self._reader.left.is_set():
            raise ClientLeft
        step = self._split or len(data)
        for start in range(0, len(data), step):
            self._writer.write(data[start : start + step])
            await self._writer.drain()
            if self._split:
                await asyncio.sleep(0)

    async def _whole(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        fields = {"content-type": "application/json", "content-length": str(len(data))}
        await self._send(_head(status, fields | (headers or {})) + data)


def _head(status: int, fields: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)

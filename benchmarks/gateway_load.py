"""Asks at a fixed rate, whether or not answers keep up, and notes when each piece of them came.

    python gateway_load.py URL --rate 100 --seconds 10 --body FILE [--key KEY]

Prints one JSON object: milliseconds until the first piece and until the end of each answer, and
what each piece took from where it was sent. A process of its own, so that its work is not that of
whom it asks; what it adds itself is the same for all.
"""

import argparse
import asyncio
import json
import re
import time
from collections import deque
from urllib.parse import urlsplit

import uvloop

STAMP = re.compile(rb"@(\d+) ")
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
END = b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One request at a time. It reads as little of HTTP as tells that an answer is whole."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] | None = None
        self.first_ns = self.end_ns = 0
        self.delays_ns: list[int] = []
        self.failed = False
        self.head = b""
        self._tail = b""
        self._told, self._missing = False, 0  # whether a body's length was said, what is left

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._finish(failed=True)

    def ask(self, data: bytes) -> "asyncio.Future[None]":
        assert self.transport is not None
        self.first_ns, self.delays_ns, self.failed = 0, [], False
        self.head = self._tail = b""
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        return self.done

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if not self.head:
            self._begin(data)
        else:
            self._missing -= len(data)
        if not self.first_ns and b"data: " in data:
            self.first_ns = now
        self.delays_ns += [now - int(stamp) for stamp in STAMP.findall(data)]
        self._tail = (self._tail + data)[-8:]
        if self._missing <= 0 and (self._told or self._tail.endswith(END)):
            self.end_ns = now
            self._finish(failed=self.failed)

    def _begin(self, data: bytes) -> None:
        """The head of an answer, which comes in one piece or is taken for a failure."""
        self.head, _, body = data.partition(b"\r\n\r\n")
        length = LENGTH.search(self.head)
        self._told = length is not None
        self._missing = int(length[1]) - len(body) if length else 0
        self.failed = not data.startswith(b"HTTP/1.1 200")

    def _finish(self, *, failed: bool) -> None:
        if self.done is not None and not self.done.done():
            self.failed = failed
            self.done.set_result(None)


class Load:
    def __init__(self, url: str, body: bytes, key: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        head = (
            f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            f"content-type: application/json\r\nauthorization: Bearer {key}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self._data = head.encode() + body
        self._idle: deque[Connection] = deque()
        self.first_ms: list[float] = []
        self.whole_ms: list[float] = []
        self.piece_ms: list[float] = []
        self.failures = 0
        self.heads: list[str] = []  # of answers that were none

    async def at_rate(self, rate: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        begin, tasks = loop.time(), []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(begin + number / rate - loop.time())
            tasks.append(loop.create_task(self._one()))
        await asyncio.gather(*tasks)

    async def in_turn(self, clients: int, seconds: float) -> float:
        """Answers a second of so many clients that each ask again when they are answered."""
        begin = time.monotonic()

        async def client() -> None:
            while time.monotonic() - begin < seconds:
                await self._one()

        await asyncio.gather(*(client() for _ in range(clients)))
        return len(self.whole_ms) / (time.monotonic() - begin)

    async def _one(self) -> None:
        asked = time.monotonic_ns()
        connection = self._kept() or await self._connect()
        await connection.ask(self._data)
        if connection.failed:
            self.failures += 1
            self.heads.append(connection.head[:400].decode("latin-1"))
            if connection.transport is not None:
                connection.transport.close()
            return
        self.first_ms.append((connection.first_ns - asked) / 1e6)
        self.whole_ms.append((connection.end_ns - asked) / 1e6)
        self.piece_ms += [delay / 1e6 for delay in connection.delays_ns]
        self._idle.append(connection)

    def _kept(self) -> Connection | None:
        """An idle connection that the server has not closed meanwhile."""
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        return connection


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--clients", type=int, default=0, help="instead of a rate")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--body", required=True)
    parser.add_argument("--key", default="none")
    wanted = parser.parse_args()
    with open(wanted.body, "rb") as file:
        load = Load(wanted.url, file.read(), wanted.key)
    per_s = None
    if wanted.clients:
        per_s = await load.in_turn(wanted.clients, wanted.seconds)
    else:
        await load.at_rate(wanted.rate, wanted.seconds)
    print(
        json.dumps(
            {
                "first_ms": load.first_ms,
                "whole_ms": load.whole_ms,
                "piece_ms": load.piece_ms,
                "failures": load.failures,
                "heads": load.heads[:5],
                "per_s": per_s,
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main())

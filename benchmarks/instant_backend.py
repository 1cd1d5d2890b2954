"""A backend that answers at once, for measuring what goes between it and a client.

    python instant_backend.py [--events 20] [--gap-ms 0]

Speaks as much of OpenAI's chat completions, streamed or not, as the measurement needs. Each piece
of a stream says when it was sent (`time.monotonic_ns`, one clock for all processes of a machine).
"""

import argparse
import asyncio
import contextlib
import json
import time
from typing import Any

import httptools
import uvloop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
USAGE = {"prompt_tokens": 20, "completion_tokens": 20, "total_tokens": 40}


def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    body = {
        "id": "chatcmpl-0",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "instant",
        "choices": [choice],
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Backend(asyncio.Protocol):
    def __init__(self, events: int, gap_s: float) -> None:
        self._events, self._gap_s = events, gap_s
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"GET":
            self._whole({"object": "list", "data": [{"id": "instant", "object": "model"}]})
            return
        asked = json.loads(self._body)
        if not asked.get("stream"):
            text = "word " * self._events
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._whole({"id": "0", "model": "instant", "choices": [choice], "usage": USAGE})
            return
        self._write(HEAD + chunk(event({"role": "assistant", "content": ""})))
        if self._gap_s:
            asyncio.get_running_loop().call_later(self._gap_s, self._piece, 0)
            return
        for _ in range(self._events):
            self._write(chunk(self._stamped()))
        self._end()

    def _piece(self, number: int) -> None:
        self._write(chunk(self._stamped()))
        if number + 1 < self._events:
            asyncio.get_running_loop().call_later(self._gap_s, self._piece, number + 1)
        else:
            self._end()

    def _stamped(self) -> bytes:
        return event({"content": f"@{time.monotonic_ns()} "})

    def _end(self) -> None:
        usage = {"id": "0", "object": "chat.completion.chunk", "created": 0, "model": "instant"}
        last = b"data: " + json.dumps({**usage, "choices": [], "usage": USAGE}).encode() + b"\n\n"
        data = event({}, "stop") + last + b"data: [DONE]\n\n"
        self._write(chunk(data) + b"0\r\n\r\n")

    def _whole(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._write(head % len(data) + data)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--gap-ms", type=float, default=0.0)
    wanted = parser.parse_args()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Backend(wanted.events, wanted.gap_ms / 1000), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main())

"""A backend that goes wrong in the worst way costs its own answer and nothing else.

`tests/gateway/upstream` holds a backend's adapter to this; here it is the gateway's whole way, in
every API: what the client is told, who answers instead, and what memory it takes.
"""

import itertools
import json
import resource
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hostile import ROUTES, STREAM, asking, attacked, chunk, event, placed, speaking, until
from upstream_server import upstream_server

HELLO = "Hello, world!"
CHUNKED = STREAM + b"transfer-encoding: chunked\r\n\r\n"
PLAIN = STREAM + b"\r\n"
MANY_HEADERS = b"".join(b"x-%d: y\r\n" % number for number in range(2000))
LIMITS = {"connect_s": 2.0, "first_byte_s": 0.3, "idle_s": 0.3, "total_s": 0.5}


def endless(piece: bytes, begin: bytes = CHUNKED) -> Iterator[bytes]:
    return itertools.chain([begin], itertools.repeat(piece))


def slowly(data: bytes) -> Iterator[bytes]:
    for byte in data * 1000:
        yield bytes([byte])
        time.sleep(0.02)


def huge(size: int) -> Iterator[bytes]:
    yield CHUNKED
    yield chunk(b'data: {"choices":[{"index":0,"delta":{"content":"')
    for _ in range(size >> 16):
        yield chunk(b"x" * 65536)
    yield chunk(b'"}}]}\n\n')


@cache
def packed_zeros() -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(bytes(1 << 16)) for _ in range(1000)) + packer.flush()


def bomb(how: str) -> Iterator[bytes]:
    packed = packed_zeros()
    yield STREAM + f"content-encoding: {how}\r\ncontent-length: {len(packed)}\r\n\r\n".encode()
    yield packed


def logprobs(size: int) -> Iterator[bytes]:
    one = {"token": "a", "logprob": -1, "bytes": size}
    yield CHUNKED
    yield chunk(event("a", logprobs={"content": [one]}))
    yield chunk(event(finish_reason="stop"))
    yield chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


NEVER_AN_ANSWER: dict[str, Callable[[], Iterator[bytes]]] = {
    "nothing": lambda: iter([b""]),
    "garbage": lambda: endless(bytes(range(256)), b""),
    "a head byte by byte": lambda: slowly(b"HTTP/1.1 200 OK\r\nx: y"),
    "a head without end": lambda: endless(b"x: y\r\n", b"HTTP/1.1 200 OK\r\n"),
    "a header without end": lambda: endless(b"y" * 4096, b"HTTP/1.1 200 OK\r\nx: "),
    "thousands of headers": lambda: iter([STREAM + MANY_HEADERS + b"\r\n" + event("a")]),
    "1xx without end": lambda: endless(b"HTTP/1.1 102 Processing\r\n\r\n", b""),
    "another protocol": lambda: iter([b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"]),
    "both lengths": lambda: iter(
        [STREAM + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n" + chunk(event("a"))]
    ),
    "a chunk of half the memory": lambda: iter([CHUNKED + b"fffffffffffffff\r\ndata"]),
    "a bad chunk": lambda: iter([CHUNKED + b"zz\r\n" + event("a")]),
    "half a chunk": lambda: iter([CHUNKED + chunk(event("a"))[:20]]),
    "an event without end": lambda: endless(chunk(b"data: x\n")),
    "a line without end": lambda: endless(chunk(b"x" * 65536)),
    "comments alone": lambda: endless(chunk(b": still here\n\n")),
    "events without content": lambda: endless(chunk(event(""))),
    "events without choices": lambda: endless(chunk(b'data: {"choices":[]}\n\n')),
    "an event of 8 MB": lambda: huge(8 << 20),
    "deep JSON": lambda: iter([PLAIN, b"data: " + b"[" * 200_000 + b"\n\n"]),
    "packed by gzip": lambda: bomb("gzip"),
    "packed twice": lambda: bomb("gzip, gzip"),
    "a page": lambda: iter([b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>"]),
    "an error without end": lambda: endless(
        b"x" * 65536, b"HTTP/1.1 500 No\r\ncontent-type: application/json\r\n\r\n"
    ),
}


@pytest.mark.parametrize("name", NEVER_AN_ANSWER)
def test_a_backend_that_never_answers_is_followed_by_one_that_does(
    tmp_path: Path, name: str
) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with speaking(NEVER_AN_ANSWER[name]) as bad, upstream_server() as good:
        first = placed(good, "bad", tier="edge", url=bad.url, limits=LIMITS)
        with attacked(tmp_path, first, placed(good, "good")) as gateway:
            begun = time.monotonic()
            answered = gateway.post(ROUTES[0], asking(ROUTES[0]))
            took = time.monotonic() - begun
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb

    assert answered.json()["choices"][0]["message"]["content"] == HELLO
    assert bad.asked >= 1
    assert took < 4
    assert grown_kb < 60_000


@pytest.mark.parametrize("name", ["nothing", "garbage", "a bad chunk", "comments alone", "a page"])
@pytest.mark.parametrize("route", [ROUTES[0], ROUTES[3]])
def test_where_nobody_else_answers_the_error_is_said_before_a_stream_begins(
    tmp_path: Path, name: str, route: str
) -> None:
    with (
        speaking(NEVER_AN_ANSWER[name]) as bad,
        upstream_server() as unused,
        attacked(tmp_path, placed(unused, url=bad.url, limits=LIMITS)) as gateway,
    ):
        refused = gateway.post(route, asking(route, stream=True))

    assert refused.status in (502, 503)
    assert _is_error(refused.json())


@pytest.mark.parametrize("size", [30_000_000, 10**15])
def test_a_backend_s_number_of_bytes_is_not_allocated(tmp_path: Path, size: int) -> None:
    """One number of a backend's, asked for or not, could take all memory there is."""
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        speaking(lambda: logprobs(size)) as bad,
        upstream_server() as unused,
        attacked(tmp_path, placed(unused, url=bad.url)) as gateway,
    ):
        answered = gateway.post(ROUTES[0], asking(ROUTES[0], logprobs=True))
        healthy = gateway.ask("GET", "/health")
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb

    assert answered.status in (200, 502, 503)
    assert healthy.status == 200
    assert grown_kb < 50_000


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_end_ends(tmp_path: Path, stream: bool) -> None:
    """It asks for 16 tokens; what comes is a megabyte an event, for as long as it may last."""
    piece = chunk(event("x" * 1_000_000))
    with speaking(lambda: endless(piece)) as bad, upstream_server() as unused:
        wide = placed(unused, url=bad.url, limits=LIMITS | {"total_s": 2.0})
        with attacked(tmp_path, wide) as gateway:
            body = asking(ROUTES[0], stream=stream, max_tokens=16)
            gateway.post(ROUTES[0], body)

    assert bad.sent < 64_000_000


def broken_after_text(how: str) -> Iterator[bytes]:
    yield CHUNKED
    yield chunk(event("Hello"))
    time.sleep(0.05)
    if how == "half a chunk":
        yield chunk(event(", world"))[:30]
    elif how == "a bad chunk":
        yield b"zz\r\n"
    elif how == "silence":
        time.sleep(2)
    elif how == "byte by byte":
        yield from map(chunk, slowly(event("x")[:-2]))
    elif how == "an event without end":
        yield from endless(chunk(b"data: x\n"), b"")
    elif how == "the next reply":
        yield b"0\r\n\r\n" + CHUNKED + chunk(event(", world"))


BROKEN = (
    *("half a chunk", "a bad chunk", "silence", "byte by byte", "an event without end"),
    *("the end of the connection", "the next reply"),
)


@pytest.mark.parametrize("route", [one for one in ROUTES if one != "/v1/completions"])
@pytest.mark.parametrize("how", BROKEN)
def test_a_stream_that_breaks_ends_in_its_api_s_error_and_is_booked(
    tmp_path: Path, route: str, how: str
) -> None:
    with (
        speaking(lambda: broken_after_text(how)) as bad,
        upstream_server() as unused,
        attacked(tmp_path, placed(unused, url=bad.url, limits=LIMITS)) as gateway,
    ):
        key = gateway.key()
        reply = gateway.post(route, asking(route, stream=True), key=key)
        until(lambda: gateway.ledger())
        (row,) = gateway.ledger()
    events = [json.loads(x[6:]) for x in reply.text.splitlines() if x.startswith("data: {")]

    assert reply.status == 200
    assert "Hello" in reply.text
    assert "[DONE]" not in reply.text
    assert "message_stop" not in reply.text
    assert _is_error(events[-1])
    assert (row["status"], row["completion_tokens"]) == ("failed", 1)


def _is_error(event: dict[str, Any]) -> bool:
    return "error" in event or event.get("type") in ("error", "response.failed")

"""A proxy before us and we must never differ on where a request ends: what is unclear is refused.

After each attack comes a whole request of another caller's; it must stay a part of the first one's
bytes, or be lost with the connection, and never be answered as a request of its own.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile import ROUTES, Attacked, asking, attacked, connected, exchanged, placed
from upstream_server import UpstreamServer, upstream_server

CHAT = ROUTES[0]
BODY = json.dumps(asking(CHAT)).encode()
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SIZED = b"Content-Length: %d\r\n" % len(BODY)


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamServer
) -> Iterator[Attacked]:
    folder: Path = tmp_path_factory.mktemp("smuggling")
    with attacked(folder, placed(upstream)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def key(gateway: Attacked) -> str:
    return gateway.key()


def head(key: str, *more: bytes, version: str = "1.1") -> bytes:
    lines = f"POST {CHAT} HTTP/{version}\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    return lines.encode() + b"Content-Type: application/json\r\n" + b"".join(more) + b"\r\n"


def smuggled(key: str) -> bytes:
    lines = f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    return lines.encode() + b"\r\n"


UNCLEAR_LENGTH = {
    "CL.TE": (SIZED, CHUNKED),
    "TE.CL": (CHUNKED, SIZED),
    "two lengths": (SIZED, b"Content-Length: 3\r\n"),
    "one length twice": (SIZED, SIZED),
    "a list of lengths": (b"Content-Length: %d, %d\r\n" % (len(BODY), len(BODY)),),
    "length with a plus": (b"Content-Length: +%d\r\n" % len(BODY),),
    "negative length": (b"Content-Length: -1\r\n",),
    "hexadecimal length": (b"Content-Length: 0x%x\r\n" % len(BODY),),
    "length without end": (b"Content-Length: 99999999999999999999999\r\n",),
    "no length": (b"Content-Length: \r\n",),
    "space before the colon": (b"Content-Length : %d\r\n" % len(BODY),),
    "another coding": (b"Transfer-Encoding: xchunked\r\n",),
    "chunked is not last": (b"Transfer-Encoding: chunked, identity\r\n",),
    "chunked twice": (CHUNKED, CHUNKED),
    "chunked in quotes": (b'Transfer-Encoding: "chunked"\r\n',),
    "a control before chunked": (b"Transfer-Encoding: \x0bchunked\r\n",),
    "space after the coding's name": (b"Transfer-Encoding : chunked\r\n",),
    "folded coding": (b"Transfer-Encoding:\r\n chunked\r\n",),
    "folded header": (b"X-A: a\r\n b\r\n", SIZED),
    "space in a name": (b"X A: a\r\n", SIZED),
    "tab in a name": (b"X\tA: a\r\n", SIZED),
    "NUL in a name": (b"X\0A: a\r\n", SIZED),
    "no name": (b": a\r\n", SIZED),
    "no colon": (b"X-A\r\n", SIZED),
    "NUL in a value": (b"X-A: a\0b\r\n", SIZED),
    "a return in a value": (b"X-A: a\rb\r\n", SIZED),
    "a line end alone": (b"X-A: a\n", SIZED),
}
BAD_CHUNKS = {
    "no number": b"zz\r\n" + BODY,
    "0x": b"0x" + CHUNKS,
    "negative": b"-1\r\n" + BODY,
    "larger than 64 bits": b"1000000000000000" + CHUNKS,
    "space before": b" " + CHUNKS,
    "space after": CHUNKS.replace(b"\r\n", b" \r\n", 1),
    "line end alone": CHUNKS.replace(b"\r\n", b"\n", 1),
    "nothing after": CHUNKS.replace(b"}\r\n0", b"}0"),
    "longer than it says": CHUNKS.replace(b"}\r\n0", b"}XX\r\n0"),
    "an extension with a line end": CHUNKS.replace(b"\r\n", b";a\n", 1),
    "line ends alone at the end": CHUNKS.replace(b"0\r\n\r\n", b"0\n\n"),
}


def test_what_is_clear_is_answered(gateway: Attacked, upstream: UpstreamServer, key: str) -> None:
    for sized in (head(key, SIZED) + BODY, head(key, CHUNKED) + CHUNKS):
        said, _ = exchanged(gateway.url, sized, within_s=0.5)
        assert said.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("name", UNCLEAR_LENGTH)
def test_smuggling_by_a_length_that_two_readers_could_read_differently_is_refused(
    gateway: Attacked, upstream: UpstreamServer, key: str, name: str
) -> None:
    fields = UNCLEAR_LENGTH[name]
    body = CHUNKS if any(b"ransfer" in one for one in fields) else BODY
    asked = len(upstream.asked)
    said, closed = exchanged(gateway.url, head(key, *fields) + body + smuggled(key))

    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1
    assert closed
    assert len(upstream.asked) == asked


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_smuggling_by_a_bad_chunk_is_refused(
    gateway: Attacked, upstream: UpstreamServer, key: str, name: str
) -> None:
    asked = len(upstream.asked)
    said, closed = exchanged(gateway.url, head(key, CHUNKED) + BAD_CHUNKS[name] + smuggled(key))

    assert said.count(b"HTTP/1.1 400 ") == said.count(b"HTTP/1.1 ") == 1
    assert closed
    assert len(upstream.asked) == asked


def test_smuggling_by_the_old_version_of_http_ends_with_its_connection(
    gateway: Attacked, key: str
) -> None:
    old = head(key, CHUNKED, version="1.0") + CHUNKS + smuggled(key)
    said, closed = exchanged(gateway.url, old)

    assert said.count(b"HTTP/1.1 ") == 1
    assert closed


def test_a_body_that_a_get_has_is_no_request(gateway: Attacked, key: str) -> None:
    inner = smuggled(key)
    length = b"Content-Length: %d\r\n\r\n" % len(inner)
    said, _ = exchanged(gateway.url, inner.removesuffix(b"\r\n") + length + inner, within_s=0.5)

    assert said.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"else"])
def test_smuggling_in_the_body_of_an_upgrade_is_no_request(
    gateway: Attacked, key: str, protocol: bytes
) -> None:
    """What stands in the body of a request that asks for another protocol stays its body."""
    inner = smuggled(key)
    upgrade = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
    begin = head(key, upgrade, b"Content-Length: %d\r\n" % len(inner))
    with connected(gateway.url, 0.5) as connection:
        connection.sendall(begin)
        time.sleep(0.1)  # so that it comes by itself
        said = b""
        try:
            connection.sendall(inner)
            while piece := connection.recv(65536):
                said += piece
        except OSError:
            pass

    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"Upgrade" in said
    assert said.count(b"HTTP/1.1 ") == 1


def test_a_request_that_asks_for_another_protocol_is_answered_and_the_last(
    gateway: Attacked, key: str
) -> None:
    """As `curl --http2` asks."""
    asks = smuggled(key).removesuffix(b"\r\n") + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    said, closed = exchanged(gateway.url, asks + smuggled(key))

    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.count(b"HTTP/1.1 ") == 1
    assert closed


@pytest.mark.parametrize("hosts", [b"", b"Host: 127.0.0.1\r\nHost: evil.example\r\n"])
def test_a_request_has_one_host(gateway: Attacked, key: str, hosts: bytes) -> None:
    data = head(key, SIZED).replace(b"Host: 127.0.0.1\r\n", hosts) + BODY
    said, _ = exchanged(gateway.url, data, within_s=0.5)

    assert said.startswith(b"HTTP/1.1 400 ")

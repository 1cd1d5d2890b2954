"""Clients that hold on to what they have: connections, bodies, answers. Others are served."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hostile import (
    ROUTES,
    STREAM,
    Attacked,
    Speaker,
    asking,
    attacked,
    chunk,
    connected,
    event,
    placed,
    speaking,
    until,
)
from tokenworks.server import outlet, protocol
from upstream_replies import Script
from upstream_server import UpstreamServer, upstream_server

CHAT = ROUTES[0]


@pytest.fixture
def upstream() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


def streaming(gateway: Attacked, *, buffer: int = 0) -> socket.socket:
    """A connection on which a stream was asked for."""
    body = json.dumps(asking(CHAT, stream=True)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    connection = connected(gateway.url)
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return connection


BEGUN = {
    "nothing": b"",
    "half a line": b"GET /v1/mod",
    "half a head": b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
    "half a body": (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
    ),
}


@pytest.mark.parametrize("name", BEGUN)
def test_hundreds_of_connections_that_say_nothing_more_keep_nobody_out(
    tmp_path: Path, upstream: UpstreamServer, name: str
) -> None:
    with attacked(tmp_path, placed(upstream)) as gateway, ExitStack() as held:
        for _ in range(300):
            held.enter_context(connected(gateway.url)).sendall(BEGUN[name])
        begun = time.monotonic()
        for _ in range(5):
            assert gateway.post(CHAT, asking(CHAT)).status == 200
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize("name", ["nothing", "half a line", "half a head"])
def test_slow_loris_a_head_that_never_ends_is_given_up(
    tmp_path: Path, upstream: UpstreamServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a body is after its time: else each such connection is a descriptor, and they run out."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    with attacked(tmp_path, placed(upstream)) as gateway, connected(gateway.url) as connection:
        connection.sendall(BEGUN[name])
        assert _is_closed_within(connection, 3.0)


def test_slow_loris_a_body_that_nobody_reads_any_more_is_given_up(
    tmp_path: Path, upstream: UpstreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key, it is answered before its body: what comes after that has its time too."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    with attacked(tmp_path, placed(upstream)) as gateway:
        gateway.key()
        with connected(gateway.url) as connection:
            connection.sendall(BEGUN["half a body"].replace(b"Length: 500", b"Length: 500000"))
            assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
            assert _is_closed_within(connection, 3.0, b" ")


def _is_closed_within(connection: socket.socket, within_s: float, drop: bytes = b"") -> bool:
    """Whether the server ends it, though a drop comes again and again."""
    connection.settimeout(0.05)
    ends = time.monotonic() + within_s
    while time.monotonic() < ends:
        try:
            connection.sendall(drop)
            if not connection.recv(65536):
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


def test_a_client_that_reads_slowly_costs_bounded_memory(tmp_path: Path) -> None:
    """What it does not read waits at the backend: the gateway takes no more than it can pass on."""

    def endless() -> Iterator[bytes]:
        yield STREAM + b"transfer-encoding: chunked\r\n\r\n"
        while True:
            yield chunk(event("x" * 10_000))

    with (
        speaking(endless) as backend,
        upstream_server() as unused,
        attacked(tmp_path, placed(unused, url=backend.url)) as gateway,
    ):
        with streaming(gateway, buffer=4096) as connection:
            connection.recv(100)
            until(lambda: _is_still(backend))
            taken = backend.sent
            assert gateway.ask("GET", "/health").status == 200
        until(lambda: not gateway.ask("GET", "/health").json()["requests"])

    assert taken < 24_000_000  # socket buffers on both sides, and half a megabyte of ours


def test_a_client_that_never_reads_holds_no_backend_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend has so many places: a few such clients would take all."""
    monkeypatch.setattr(outlet, "STALLED_SECONDS", 0.5)

    def endless() -> Iterator[bytes]:
        yield STREAM + b"transfer-encoding: chunked\r\n\r\n"
        while True:
            yield chunk(event("x" * 10_000))

    with (
        speaking(endless) as backend,
        upstream_server() as unused,
        attacked(tmp_path, placed(unused, url=backend.url)) as gateway,
        streaming(gateway, buffer=4096),
    ):
        until(lambda: _is_still(backend))
        until(lambda: not gateway.ask("GET", "/health").json()["requests"], within_s=3)


def _is_still(backend: Speaker) -> bool:
    before = backend.sent
    time.sleep(0.2)
    return before > 100_000 and backend.sent == before


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_clients_that_leave_in_any_way_free_what_they_had(
    tmp_path: Path, upstream: UpstreamServer, how: str
) -> None:
    upstream.script = Script(pieces=("x",) * 5000, delay_s=0.01)
    with attacked(tmp_path, placed(upstream)) as gateway:
        connections = [streaming(gateway) for _ in range(20)]
        for connection in connections:
            assert connection.recv(100)
            if how == "reset":
                linger = (1).to_bytes(4, "little") + bytes(4)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            if how == "half":
                connection.shutdown(socket.SHUT_WR)
            else:
                connection.close()
        if how == "half":  # who only says that no more comes still wants the answer, or is gone
            time.sleep(0.2)
            for connection in connections:
                connection.close()
        until(lambda: upstream.open_connections == 0)
        until(lambda: len(gateway.ledger()) == 20)
        rows = gateway.ledger()

    assert {row["status"] for row in rows} == {"cancelled"}
    assert upstream.left_early == 20

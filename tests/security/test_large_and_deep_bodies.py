"""No body costs more than its size warrants: too large, too deep, too slow or packed ones end."""

import gzip
import json
import resource
import time
from collections.abc import Iterator

import pytest

from hostile import EVERY_ROUTE, ROUTES, Attacked, asking, attacked, connected, exchanged, placed
from tokenworks.server import body as bodies
from tokenworks.server.settings import ServerSettings
from upstream_server import UpstreamServer, upstream_server

LIMIT = 64 * 1024
DEEPEST = 32
ADMIN = (("POST", "/admin/keys"), ("PUT", "/admin/budgets"), ("POST", "/admin/backends/rack"))
SETTINGS = ServerSettings(port=0, drain_seconds=0, max_body_bytes=LIMIT, max_nesting=DEEPEST)
JSON = ("content-type", "application/json")


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamServer
) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp("bodies")
    with attacked(folder, placed(upstream), settings=SETTINGS) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def key(gateway: Attacked) -> str:
    return gateway.key()


@pytest.fixture(scope="module")
def admin(gateway: Attacked) -> str:
    return gateway.key(role="admin")


def nested(depth: int, kind: str) -> bytes:
    begin, end = {"list": ("[", "]"), "object": ('{"a":', "}"), "both": ('[{"a":', "}]")}[kind]
    return f'{{"x": {begin * depth}1{end * depth}}}'.encode()


@pytest.mark.parametrize("route", EVERY_ROUTE)
@pytest.mark.parametrize("kind", ["list", "object", "both"])
def test_nesting_without_end_is_refused_by_every_api(
    gateway: Attacked, key: str, route: str, kind: str
) -> None:
    for depth in (DEEPEST, 1000, 5000):
        refused = gateway.post(route, nested(depth, kind), key=key)
        assert refused.status == 400
        assert "deeper than 32" in refused.text
    assert gateway.post(route, b"[" * (LIMIT - 10), key=key).status == 400


@pytest.mark.parametrize("route", EVERY_ROUTE)
@pytest.mark.parametrize("place", ["tool", "arguments", "schema"])
def test_nesting_inside_what_is_passed_on_breaks_nothing(
    gateway: Attacked, key: str, route: str, place: str
) -> None:
    """JSON inside of a string is no nesting of the body, and is read all the same."""
    deep = "[" * 10_000 + "]" * 10_000
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": deep}}
    body: dict[str, object] = {
        "tool": asking(route, deep),
        "arguments": asking(route) | {"messages": [{"role": "assistant", "tool_calls": [call]}]},
        "schema": asking(route, json.dumps({"type": "object", "default": deep})),
    }[place]

    assert gateway.post(route, body, key=key).status in (200, 400)


@pytest.mark.parametrize(("method", "path"), ADMIN)
def test_nesting_without_end_is_refused_by_the_administration(
    gateway: Attacked, admin: str, method: str, path: str
) -> None:
    for kind in ("list", "object", "both"):
        refused = gateway.ask(method, path, nested(5000, kind), JSON, key=admin)
        assert refused.status == 400
        assert "deeper than 32" in refused.text


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_a_body_over_the_limit_is_refused_by_every_api(
    gateway: Attacked, key: str, route: str
) -> None:
    large = json.dumps(asking(route, "x" * LIMIT)).encode()
    refused = gateway.post(route, large, key=key)

    assert refused.status == 413
    assert str(LIMIT) in refused.text


@pytest.mark.parametrize(("method", "path"), ADMIN)
def test_a_body_over_the_limit_is_refused_by_the_administration(
    gateway: Attacked, key: str, admin: str, method: str, path: str
) -> None:
    """Whoever has any key could fill the memory otherwise: roles are asked for once it is read."""
    large = json.dumps({"name": "x" * 4 * LIMIT}).encode()

    for whose in (key, admin):
        assert gateway.ask(method, path, large, JSON, key=whose).status == 413


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_a_packed_bomb_is_not_unpacked(
    gateway: Attacked, upstream: UpstreamServer, key: str, route: str
) -> None:
    asked = len(upstream.asked)
    bomb = gzip.compress(json.dumps(asking(route, "x" * 30_000_000)).encode())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for coding in ("gzip", "deflate", "br", "zstd", "identity, gzip"):
        refused = gateway.post(route, bomb, ("content-encoding", coding), key=key)
        assert refused.status == 400
        assert "UTF-8" in refused.text
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert grown_kb < 8 * 1024
    assert len(upstream.asked) == asked


@pytest.mark.parametrize("count", [200, 4000])
def test_many_small_headers_stall_nobody(gateway: Attacked, key: str, count: int) -> None:
    lines = "".join(f"x-{number}: a\r\n" for number in range(count))
    request = (
        f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Connection: close\r\n{lines}\r\n"
    )
    begun = time.monotonic()
    said, closed = exchanged(gateway.url, request.encode())

    assert closed
    assert said.split(b" ", 2)[1] in (b"200", b"400", b"431")
    assert time.monotonic() - begun < 1


def test_a_slow_body_has_its_time(gateway: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_READ_SECONDS", 0.3)
    admin = gateway.key(role="admin")
    for route in (*EVERY_ROUTE, "/admin/keys"):
        head = (
            f"POST {route} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {admin}\r\n"
            "Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
        )
        with connected(gateway.url) as connection:
            connection.sendall(head.encode())
            begun = time.monotonic()
            said = b""
            connection.settimeout(0.05)
            while not said and time.monotonic() - begun < 5:
                connection.sendall(b" ")
                try:
                    said = connection.recv(65536)
                except TimeoutError:
                    continue
        assert said.startswith(b"HTTP/1.1 408 ")


def test_large_requests_stall_no_other_s_stream(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Looking through a few megabytes takes seconds: others' streams must go on meanwhile."""
    text = "phone +4930123456, token=a1b2c3d4e5f6g7h8i9, "
    large = asking(ROUTES[0], text * (500_000 // len(text)))
    with (
        upstream_server() as upstream,
        attacked(tmp_path_factory.mktemp("stall"), placed(upstream)) as gateway,
    ):
        import threading

        done = threading.Thread(target=lambda: gateway.post(ROUTES[0], large))
        begun, longest = time.monotonic(), 0.0
        done.start()
        while done.is_alive():
            asked = time.monotonic()
            assert gateway.ask("GET", "/health").status == 200
            longest = max(longest, time.monotonic() - asked)
        took = time.monotonic() - begun

    assert took > 0.3, "the request was too small for this machine to show anything"
    assert longest < 0.25, f"nobody was answered for {longest:.1f} s"

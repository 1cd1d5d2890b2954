"""Every door of the administration asks for its role: taken from its own description, so that a
route that is added later is tried too."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hostile import ROUTES, Attacked, Reply, asking, attacked, connected, exchanged, placed
from upstream_server import upstream_server

FOR_ACCOUNTANTS = {"/admin/usage", "/admin/bill", "/admin/ledger"}
"""Whose own tenant's books these are, sees them."""

BODIES: dict[str, Any] = {
    "/admin/keys": {"tenant": "acme"},
    "/admin/budgets": {"holder": "tenant:acme", "money": "1.00"},
    "/admin/backends/{name}": {"state": "draining"},
}
PARAMETERS = {
    "/admin/bill": "?tenant=acme&month=2026-11",
    "/admin/ledger": "?since=2026-11-01&until=2026-12-01",
    "/admin/budgets": "?holder=tenant:nobody",
}
Door = tuple[str, str]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with (
        upstream_server() as upstream,
        attacked(tmp_path_factory.mktemp("admin"), placed(upstream)) as gateway,
    ):
        yield gateway


@pytest.fixture(scope="module")
def keys(gateway: Attacked) -> dict[str, str]:
    return {role: gateway.key(role=role) for role in ("user", "service", "accountant", "admin")}


@pytest.fixture(scope="module")
def doors(gateway: Attacked, keys: dict[str, str]) -> list[Door]:
    described = gateway.ask("GET", "/admin/openapi.json", key=keys["admin"]).json()
    return [
        (method.upper(), path) for path, methods in described["paths"].items() for method in methods
    ]


def knock(gateway: Attacked, door: Door, *fields: tuple[str, str], key: str = "") -> Reply:
    """A request that would be a good one, from somebody who might send it."""
    method, path = door
    where = path.format_map(_Filled()) + PARAMETERS.get(path, "")
    if method not in ("POST", "PUT", "PATCH"):
        return gateway.ask(method, where, b"", *fields, key=key)
    kind = ("content-type", "application/json")
    body = json.dumps(BODIES.get(path, {})).encode()
    return gateway.ask(method, where, body, kind, *fields, key=key)


class _Filled(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "none"


def test_the_description_names_every_route_of_the_administration(
    gateway: Attacked, doors: list[Door]
) -> None:
    assert len(doors) >= 13
    assert all(path.startswith("/admin/") for _, path in doors)


def test_no_route_of_the_administration_is_open(gateway: Attacked, doors: list[Door]) -> None:
    for door in [*doors, ("GET", "/admin/openapi.json")]:
        for key in ("", "unknown"):
            assert knock(gateway, door, key=key).status == 401, door


def test_no_route_of_the_administration_lets_in_who_is_no_administrator(
    gateway: Attacked, keys: dict[str, str], doors: list[Door]
) -> None:
    for door in doors:
        for role in ("user", "service", "accountant"):
            reply = knock(gateway, door, key=keys[role])
            may = door[1] in FOR_ACCOUNTANTS and role != "user"
            assert reply.status == (200 if may else 403), (door, role)
            if not may:
                assert reply.json()["error"]["code"] == "not_allowed"


def test_only_administrators_read_the_description(gateway: Attacked, keys: dict[str, str]) -> None:
    for role in ("user", "service", "accountant"):
        assert gateway.ask("GET", "/admin/openapi.json", key=keys[role]).status == 403


def test_an_accountant_sees_no_other_tenant_s_books(
    gateway: Attacked, keys: dict[str, str]
) -> None:
    for path in ("/admin/usage?", "/admin/bill?month=2026-11&", "/admin/ledger?since=2026-01-01&"):
        path += "until=2026-12-01&" if "ledger" in path else ""
        for other in ("other", "ACME", "acme%20", "acme%00", "", "%61cm%65x", "*", "acme'--"):
            refused = gateway.ask("GET", f"{path}tenant={other}", key=keys["accountant"])
            assert refused.status in (400, 403), (path, other)
        twice = gateway.ask("GET", f"{path}tenant=acme&tenant=other", key=keys["accountant"])
        assert twice.status == 403


def test_nobody_administers_where_no_key_is_needed(tmp_path: Path, doors: list[Door]) -> None:
    """Without keys everybody on this machine may ask, and so might a page that found a way in."""
    with upstream_server() as upstream, attacked(tmp_path, placed(upstream)) as gateway:
        for door in doors:
            for key in ("", "whatever"):
                assert knock(gateway, door, key=key).status == 403, door


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "file://"]
)
def test_pages_from_elsewhere_reach_no_route_of_the_administration(
    gateway: Attacked, keys: dict[str, str], doors: list[Door], origin: str
) -> None:
    for door in doors:
        refused = knock(gateway, door, ("origin", origin), key=keys["admin"])
        assert refused.status == 403, door
        assert refused.json()["error"]["code"] == "origin_not_allowed"
        assert "access-control-allow-origin" not in refused.headers
        asked = gateway.ask(
            "OPTIONS", door[1], b"", ("origin", origin), ("access-control-request-method", door[0])
        )
        assert asked.status == 403


def test_a_revoked_key_follows_no_events_any_more(gateway: Attacked) -> None:
    key, user = gateway.key(role="admin"), gateway.key()
    request = (
        f"GET /admin/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n"
    )
    with connected(gateway.url, 2.0) as follower:
        follower.sendall(request.encode())
        assert b": following" in follower.recv(65536)
        gateway.wait(gateway.books.keys.revoke(key.split("_")[1], actor="t"))
        time.sleep(0.7)
        gateway.post(ROUTES[0], asking(ROUTES[0]), key=user)
        heard = b""
        with suppress(TimeoutError):
            while piece := follower.recv(65536):
                heard += piece

    assert b"event: request" not in heard


TRICKS = (
    "//admin/keys",
    "/./admin/keys",
    "/v1/../admin/keys",
    "/health/../admin/keys",
    "/chat.js/../admin/keys",
    "/%2e/admin/keys",
    "/v1/%2e%2e/admin/keys",
    "/health%2f..%2fadmin/keys",
    "/health;/../admin/keys",
    "/health%00/../admin/keys",
    "/health\\..\\admin\\keys",
    "/ADMIN/keys",
    "/admin/keys/",
    "/admin/keys%0a",
    "/admin//keys",
    "/%61dmin/keys",
    "/admin/keys?x=/health",
    "/admin/keys#/health",
)


@pytest.mark.parametrize("path", TRICKS)
def test_tricks_of_the_path_open_nothing_without_a_key(gateway: Attacked, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    said, _ = exchanged(gateway.url, request.encode("latin-1"))
    status = int(said.split(b" ", 2)[1])

    assert status in (400, 401, 404)
    assert b'"data"' not in said


@pytest.mark.parametrize("path", TRICKS)
def test_tricks_of_the_path_get_round_no_role(
    gateway: Attacked, keys: dict[str, str], path: str
) -> None:
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Authorization: Bearer {keys['user']}\r\n\r\n"
    )
    said, _ = exchanged(gateway.url, request.encode("latin-1"))

    assert int(said.split(b" ", 2)[1]) in (400, 403, 404)
    assert b'"data"' not in said


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PATCH", "get", "PROPFIND"])
def test_other_methods_open_nothing(gateway: Attacked, keys: dict[str, str], method: str) -> None:
    for fields in ((), (("x-http-method-override", "GET"),)):
        assert gateway.ask(method, "/admin/keys", b"", *fields).status in (400, 401)
        asked = gateway.ask(method, "/admin/keys", b"", *fields, key=keys["user"])
        assert asked.status in (400, 403, 405)

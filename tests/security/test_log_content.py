"""What people say and what opens doors is in no log line, at whatever level, and in no record."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hostile import ROUTES, Attacked, asking, attacked, connected, placed, rows_of, until
from tokenworks.telemetry.log import LineFormatter
from upstream_replies import Script
from upstream_server import UpstreamServer, upstream_server

PROMPT = "zebra-quartz-umbrella"
ANSWER = "yellow-falcon-dawn"
OWN_KEY = "the-backend-s-own-key-4711"
TABLES = ("requests", "entries", "reservations", "spending", "budgets", "keys", "audit", "facts")


@pytest.fixture
def upstream() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@contextmanager
def every_log_line() -> Iterator[io.StringIO]:
    """Of all loggers, at debug level, as it would be written."""
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(LineFormatter())
    root, ours = logging.getLogger(), logging.getLogger("tokenworks")
    levels = root.level, ours.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    ours.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        ours.setLevel(levels[1])


SCRIPTS = (
    Script(pieces=(ANSWER, " ", ANSWER)),
    Script(pieces=(ANSWER,) * 3, fault="reset", at=2),
    Script(pieces=(ANSWER,) * 3, fault="garbage", at=2),
    Script(fault="reset"),
    Script(fault="garbage"),
    Script(fault="truncated_json", at=1),
    Script(fault="wrong_type"),
    Script(fault="status", status=500, message=PROMPT),
    Script(fault="status", status=429, message=PROMPT),
    Script(fault="status", status=403, message=f"{OWN_KEY} {PROMPT}"),
    Script(fault="status", status=302, message=PROMPT, headers={"location": f"http://{PROMPT}/"}),
    Script(fault="error_event", at=1, message=PROMPT),
    Script(pieces=(), tool_calls=(("c1", "f", json.dumps({"said": ANSWER})),), finish="tool_calls"),
    Script(pieces=(ANSWER,), reasoning=(ANSWER,)),
)


def everything_told(gateway: Attacked, admin: str) -> str:
    """All that is kept of requests: by the gateway in memory, and by the books."""
    told = [gateway.ask("GET", "/admin/requests", key=admin).text]
    for one in json.loads(told[0])["data"]:
        told.append(
            gateway.ask("GET", f"/admin/requests/{one['request_id']}/route", key=admin).text
        )
    for path in ("/metrics", "/health", "/ready", "/admin/backends", "/admin/policies"):
        told.append(gateway.ask("GET", path, key=admin).text)
    return "".join(told) + json.dumps([rows_of(gateway.books, name) for name in TABLES])


def ask_everywhere(gateway: Attacked, key: str) -> None:
    text = f"Keep {PROMPT} to yourself."
    for route in ROUTES:
        for stream in (False, True):
            gateway.post(route, asking(route, text, stream=stream), key=key)


def ask_wrongly(gateway: Attacked, key: str) -> None:
    text = f"Keep {PROMPT} to yourself."
    for route in ROUTES:
        for wrong in ({"temperature": PROMPT}, {"model": "none"}, {"n": -1}, {PROMPT: PROMPT}):
            assert gateway.post(route, asking(route, text) | wrong, key=key).status >= 400
        gateway.post(route, asking(route, text), ("x-tokenworks-label", PROMPT), key=key)
        gateway.post(route, asking(route, text), key=key[:-1])
        gateway.post(route, asking(route, text), ("x-api-key", PROMPT), key=key)
        gateway.post(f"{route}/{PROMPT}", asking(route, text), key=key)
        gateway.post(route, text.encode(), key=key)


@pytest.mark.parametrize("number", range(len(SCRIPTS)))
def test_no_prompt_no_answer_and_no_key_is_logged_or_kept(
    tmp_path: Path, upstream: UpstreamServer, number: int
) -> None:
    upstream.script = SCRIPTS[number]
    secret = tmp_path / "backend-key"
    secret.write_text(OWN_KEY)
    near = placed(upstream, api_key_file=str(secret), engine="e")
    with every_log_line() as lines, attacked(tmp_path, near) as gateway:
        key, admin = gateway.key(), gateway.key(role="admin")
        ask_everywhere(gateway, key)
        if number == 0:
            ask_wrongly(gateway, key)
        told = everything_told(gateway, admin)

    assert PROMPT in upstream.asked[0].raw.decode()
    for where, text in (("log", lines.getvalue()), ("records", told)):
        for what in (PROMPT, ANSWER, OWN_KEY, key, admin, key.rpartition("_")[2]):
            at = text.find(what)
            assert at < 0, (where, what, text[max(0, at - 300) : at + 60])


def test_a_backend_that_repeats_the_prompt_in_its_refusal_puts_it_into_no_log(
    tmp_path: Path, upstream: UpstreamServer
) -> None:
    """Servers do: `Invalid value: 'zebra-quartz-umbrella'`. Only who asked may read that."""
    upstream.script = Script(fault="status", status=400, message=f"Invalid value: '{PROMPT}'")
    with every_log_line() as lines, attacked(tmp_path, placed(upstream)) as gateway:
        key, admin = gateway.key(), gateway.key(role="admin")
        reply = gateway.post(ROUTES[0], asking(ROUTES[0], PROMPT), key=key)
        told = everything_told(gateway, admin)

    assert reply.status == 400
    assert PROMPT in reply.text
    assert PROMPT not in told
    assert PROMPT not in lines.getvalue()


def test_followers_of_events_hear_nothing_that_was_said(
    tmp_path: Path, upstream: UpstreamServer
) -> None:
    upstream.script = SCRIPTS[0]
    with attacked(tmp_path, placed(upstream)) as gateway:
        key, admin = gateway.key(), gateway.key(role="admin")
        with connected(gateway.url) as follower:
            request = (
                f"GET /admin/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {admin}"
            )
            follower.sendall(request.encode() + b"\r\n\r\n")
            said = follower.recv(65536)
            gateway.post(ROUTES[0], asking(ROUTES[0], PROMPT), key=key)

            def heard() -> bool:
                nonlocal said
                said += follower.recv(65536)
                return b"event: request" in said

            until(heard)
    for what in (PROMPT, ANSWER, key, admin):
        assert what.encode() not in said


FORGED = "%0A12:00:00 info gateway: all is well"


@pytest.mark.parametrize(
    "given",
    ["a\tb", "a b", "x" * 65, "../etc", "é", "\x85", "a;b", "${jndi:ldap://x}", "%0d%0a", ""],
)
def test_injection_by_a_request_id_gets_an_id_of_ours(
    tmp_path: Path, upstream: UpstreamServer, given: str
) -> None:
    with attacked(tmp_path, placed(upstream)) as gateway:
        reply = gateway.post(ROUTES[0], asking(ROUTES[0]), ("x-request-id", given))

    used = reply.headers["x-request-id"]
    assert used.isalnum()
    assert used != given
    assert upstream.asked[-1].headers["x-request-id"] == used
    assert reply.json()["id"] == f"chatcmpl-{used}"


def test_forging_of_log_lines_by_paths_and_names_fails(
    tmp_path: Path, upstream: UpstreamServer
) -> None:
    upstream.script = Script(pieces=("x",) * 1000, delay_s=0.02)
    with every_log_line() as lines, attacked(tmp_path, placed(upstream)) as gateway:
        for path in ("/v1/chat/completions", f"/v1/{FORGED.replace(' ', '%20')}"):
            body = json.dumps(asking(ROUTES[0], stream=True)).encode()
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            with connected(gateway.url) as client:
                client.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                client.recv(1000)
        until(lambda: "the client left" in lines.getvalue())

    assert not any(line.startswith("12:00:00 info") for line in lines.getvalue().splitlines())


def test_a_log_line_is_one_line_whatever_it_holds() -> None:
    formatter = LineFormatter()
    for trick in ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x1b[2J", "\x85", "\x00", "\x9b2J"):
        record: Any = logging.LogRecord("tokenworks.x", 20, "", 0, "a%sb", (trick,), None)
        line = formatter.format(record)
        assert len(line.splitlines()) == 1
        assert trick not in line

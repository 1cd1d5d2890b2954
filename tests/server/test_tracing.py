"""One id and one trace: from the client's headers to backends, the log, the record, the ledger."""

import asyncio
import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from serving import Serving, serving
from tokenworks.accounts.books import Books, opened
from tokenworks.accounts.keys import NewKey
from tokenworks.gateway.policies import PolicyFile
from tokenworks.telemetry import log
from upstream_replies import Script
from upstream_server import UpstreamServer, upstream_server

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
BACKEND = """
[[backends]]
name = "{name}"
url = "{url}"
tier = "{tier}"
clearance = "{clearance}"
models = {{ helper = "their-model" }}
prices = {{ input = "1.00", output = "2.00" }}
allow_private = true
"""


@pytest.fixture
def near() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@pytest.fixture
def far() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    logger = logging.getLogger("tokenworks")
    before = logger.handlers[:], logger.level, logger.propagate
    stream = io.StringIO()
    log.set_up("info", stream)
    yield stream
    logger.handlers[:], logger.level, logger.propagate = before


@contextmanager
def two_backends(
    folder: Path,
    near: UpstreamServer,
    far: UpstreamServer,
    *,
    more: str = "",
    books: Books | None = None,
) -> Iterator[Serving]:
    path = folder / "policies.toml"
    both = BACKEND.format(name="near", url=near.url, tier="site", clearance="secret")
    both += BACKEND.format(name="far", url=far.url, tier="cloud", clearance="internal")
    path.write_text(more + both)
    with serving(policies=PolicyFile(path), books=books) as server:
        yield server


def ask(server: Serving, headers: dict[str, str], **more: Any) -> httpx2.Response:
    body = {"model": "helper", "messages": [{"role": "user", "content": "Say hello."}], **more}
    url = f"{server.url}/v1/chat/completions"
    return httpx2.post(url, json=body, headers=headers, timeout=30)


def spans(server: UpstreamServer) -> list[tuple[str, str, str]]:
    """Trace, span and flags of what was asked for, in order."""
    found = [one.headers["traceparent"].split("-") for one in server.asked if one.body]
    assert all(one[0] == "00" for one in found)
    return [(one[1], one[2], one[3]) for one in found]


def test_every_attempt_is_a_span_of_its_own_in_the_client_s_trace(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer
) -> None:
    near.script = Script(fault="status", status=500)
    headers = {"traceparent": PARENT, "tracestate": "vendor=opaque", "x-request-id": "r-1"}
    with two_backends(tmp_path, near, far) as server:
        assert ask(server, headers).status_code == 200

    found = [*spans(near), *spans(far)]
    assert {(trace, flags) for trace, _, flags in found} == {(TRACE, "01")}
    assert len({SPAN, *(span for _, span, _ in found)}) == 3
    assert {one.headers["x-request-id"] for one in (*near.asked, *far.asked)} == {"r-1"}


def test_hedged_attempts_are_spans_of_their_own(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer
) -> None:
    near.script = Script(fault="stall")
    with two_backends(tmp_path, near, far, more="[failover]\nhedge_after_s = 0.05\n") as server:
        assert ask(server, {"traceparent": PARENT}, stream=True).status_code == 200

    found = [*spans(near), *spans(far)]
    assert len(found) == 2
    assert {trace for trace, _, _ in found} == {TRACE}
    assert len({SPAN, *(span for _, span, _ in found)}) == 3


@pytest.mark.parametrize("malformed", ["", "garbage", f"00-{'0' * 32}-{SPAN}-01", f"{PARENT}-more"])
def test_a_malformed_trace_is_replaced_and_never_passed_on(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, malformed: str
) -> None:
    headers = {"traceparent": malformed, "tracestate": "vendor=opaque"}
    with two_backends(tmp_path, near, far) as server:
        assert ask(server, headers).status_code == 200

    ((trace, _, flags),) = spans(near)
    assert re.fullmatch("(?!0{32})[0-9a-f]{32}", trace)
    assert (trace != TRACE, flags[1] in "02") == (True, True)
    assert "tracestate" not in near.asked[0].headers


def test_without_a_trace_none_is_begun_for_nobody(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer
) -> None:
    with two_backends(tmp_path, near, far) as server:
        assert ask(server, {}).status_code == 200

    assert "traceparent" not in near.asked[0].headers


def test_opaque_text_in_a_tracestate_reaches_only_backends_that_may_see_private_data(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer
) -> None:
    headers = {"traceparent": PARENT, "tracestate": "vendor=4111111111111111"}
    with two_backends(tmp_path, near, far) as server:
        assert ask(server, headers).status_code == 200
        near.script = Script(fault="status", status=500)
        assert ask(server, headers).status_code == 200

    assert [one.headers.get("tracestate") for one in near.asked] == [headers["tracestate"]] * 2
    assert "tracestate" not in far.asked[0].headers


def test_a_refusal_is_explained_like_any_other_decision(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer
) -> None:
    with opened(f"sqlite:///{tmp_path / 'books.db'}", tmp_path / "secret") as books:
        new = NewKey(tenant="acme", role="admin")
        key = asyncio.run(books.keys.create(new, actor="test")).text
        headers = {"authorization": f"Bearer {key}", "x-request-id": "r-1", "traceparent": PARENT}
        with two_backends(tmp_path, near, far, books=books) as server:
            drain = {"state": "draining"}
            near_s = f"{server.url}/admin/backends/near"
            assert httpx2.post(near_s, headers=headers, json=drain).status_code == 204
            refused = ask(server, {**headers, "x-tokenworks-label": "secret"})
            where = f"{server.url}/admin/requests/r-1/route"
            record = httpx2.get(where, headers=headers).json()

    assert refused.status_code == 503
    assert (record["status"], record["label"], record["trace_id"]) == ("refused", "secret", TRACE)
    rules = {one["backend"]: one["rule"] for one in record["route"]["ruled_out"]}
    assert rules == {"near": "health", "far": "label"}
    assert far.asked == []


def test_one_id_runs_from_the_header_to_backend_log_record_ledger_and_error(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, logged: io.StringIO
) -> None:
    near.script = far.script = Script(fault="status", status=500)
    with opened(f"sqlite:///{tmp_path / 'books.db'}", tmp_path / "secret") as books:
        new = NewKey(tenant="acme", role="admin")
        key = asyncio.run(books.keys.create(new, actor="test")).text
        headers = {"x-request-id": "id-to-follow", "traceparent": PARENT}
        headers["authorization"] = f"Bearer {key}"
        with two_backends(tmp_path, near, far, books=books) as server:
            reply = ask(server, headers)
            where = f"{server.url}/admin/requests/id-to-follow/route"
            record = httpx2.get(where, headers={"authorization": f"Bearer {key}"}).json()
        rows = books.database.read_now(
            lambda transaction: transaction.rows("SELECT id, status FROM requests")
        )

    assert reply.status_code == 503
    assert reply.headers["x-request-id"] == "id-to-follow"
    assert reply.headers["x-trace-id"] == TRACE
    asked = [*near.asked, *far.asked]
    assert {one.headers["x-request-id"] for one in asked} == {"id-to-follow"}
    assert {one.headers["traceparent"].split("-")[1] for one in asked} == {TRACE}
    assert (record["request_id"], record["trace_id"]) == ("id-to-follow", TRACE)
    assert [one["backend"] for one in record["tried"]] == ["near", "far"]
    assert rows == [("id-to-follow", "failed")]
    lines = [line for line in logged.getvalue().splitlines() if "gateway.failover" in line]
    assert len(lines) == 2
    assert all(f"request=id-to-follow trace={TRACE}" in line for line in lines)

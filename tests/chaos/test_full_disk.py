"""A disk without room: nothing is promised that is not booked, and it goes on once there is room.

The limit on the size of its files (`RLIMIT_FSIZE`) does to a process what a full disk does: writes
fail, of the database and of the log alike.
"""

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway_process import GatewayProcess, gateway_process
from hostile import MODEL, placed, rows_of, until
from upstream_replies import Script
from upstream_server import UpstreamServer, upstream_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")

SOON = "import tokenworks.server.keeping as keeping; keeping.RECOVER_EVERY = 1"
"""It looks for what could not be booked every half second, so that nobody waits for it here."""

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 20}


@pytest.fixture
def upstream() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@contextmanager
def full_disk(gateway: GatewayProcess) -> Iterator[None]:
    soft, hard = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (soft, hard))


def ledger(gateway: GatewayProcess) -> dict[str, Any]:
    with gateway.books() as books:
        assert rows_of(books, "reservations") == []
        return {row["id"]: row["status"] for row in rows_of(books, "requests")}


def test_a_full_disk_refuses_requests_clearly_and_needs_no_restart(
    tmp_path: Path, upstream: UpstreamServer
) -> None:
    with gateway_process(tmp_path, placed(upstream), SOON) as gateway:
        key = gateway.key()
        gateway.start()
        with gateway.client(key) as client:
            for number in range(3):
                sent = client.post(
                    "/v1/chat/completions", json=ASK, headers={"x-request-id": f"before-{number}"}
                )
                assert sent.status_code == 200
            asked = len(upstream.asked)
            with full_disk(gateway):
                for path in ("/v1/chat/completions", "/v1/messages"):
                    for stream in (False, True):
                        refused = client.post(path, json=ASK | {"stream": stream})
                        assert refused.status_code == 503
                        assert int(refused.headers["retry-after"]) >= 1
                        assert "books" in refused.json()["error"]["message"]
                        assert str(tmp_path) not in refused.text
                assert client.get("/health").status_code == 200
                assert client.get("/v1/models").status_code == 200
            assert len(upstream.asked) == asked
            after = client.post("/v1/chat/completions", json=ASK, headers={"x-request-id": "after"})
        assert after.status_code == 200
        assert ledger(gateway) == dict.fromkeys(
            ("before-0", "before-1", "before-2", "after"), "answered"
        )


def test_answers_that_a_full_disk_overtakes_are_booked_once_there_is_room(
    tmp_path: Path, upstream: UpstreamServer
) -> None:
    upstream.script = Script(pieces=("x",) * 40, delay_s=0.02)
    with gateway_process(tmp_path, placed(upstream), SOON) as gateway:
        key = gateway.key()
        gateway.start()
        headers = {"x-request-id": "overtaken"}
        with (
            gateway.client(key) as client,
            client.stream(
                "POST", "/v1/chat/completions", json=ASK | {"stream": True}, headers=headers
            ) as reply,
        ):
            lines = reply.iter_lines()
            assert next(lines).startswith("data: ")
            with full_disk(gateway):
                said = list(lines)
        assert said[-2] == "data: [DONE]"
        assert sum('"content":"x"' in line for line in said) >= 38
        until(lambda: _is_booked(gateway, "overtaken"))


def _is_booked(gateway: GatewayProcess, request_id: str) -> bool:
    with gateway.books() as books:
        rows = rows_of(books, "requests")
        spending = rows_of(books, "reservations")
    assert len(rows) <= 1
    done = bool(rows) and not spending
    if done:
        assert (rows[0]["id"], rows[0]["status"]) == (request_id, "answered")
        assert json.loads(rows[0]["route"]) == [{"backend": "rack"}]
    return done

"""Another program holds the database: requests wait, and nothing else does."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hostile import ROUTES, Reply, asking, attacked, placed
from tokenworks.store.database import Database
from upstream_server import UpstreamServer, upstream_server

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@pytest.fixture
def upstream() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@contextmanager
def held(path: Path) -> Iterator[None]:
    """By a process of its own, as by a backup that hangs."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate("")


def test_a_request_waits_for_a_database_that_another_program_holds(
    tmp_path: Path, upstream: UpstreamServer
) -> None:
    with attacked(tmp_path, placed(upstream)) as gateway:
        key = gateway.key()
        replies: list[Reply] = []
        asks = threading.Thread(
            target=lambda: replies.append(gateway.post(ROUTES[0], asking(ROUTES[0]), key=key))
        )
        with held(tmp_path / "books.db"):
            asks.start()
            for _ in range(20):  # others are served, and no key is forgotten
                begun = time.monotonic()
                assert gateway.ask("GET", "/v1/models", key=key).status == 200
                assert time.monotonic() - begun < 0.5
                time.sleep(0.02)
            assert not replies
            assert upstream.asked == []
        asks.join(10)
        (reply,) = replies
        (row,) = gateway.ledger()

    assert (reply.status, row["status"]) == (200, "answered")


def test_a_database_that_is_held_too_long_refuses_requests_and_loses_none(
    tmp_path: Path, upstream: UpstreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Database.__init__.__kwdefaults__, "busy_s", 0.1)  # 30 s otherwise
    with attacked(tmp_path, placed(upstream)) as gateway:
        key = gateway.key()
        with held(tmp_path / "books.db"):
            for route in ROUTES:
                refused = gateway.post(route, asking(route), key=key)
                assert refused.status == 503
                assert "retry-after" in refused.headers
                assert str(tmp_path) not in refused.text
            assert upstream.asked == []
        answered = [gateway.post(route, asking(route), key=key).status for route in ROUTES]
        rows = gateway.ledger()

    assert answered == [200] * len(ROUTES)
    assert [row["status"] for row in rows] == ["answered"] * len(ROUTES)

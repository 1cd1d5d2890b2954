"""What `/metrics` shows of requests over real backends, and to whom."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from serving import Serving, serving
from tokenworks.accounts.books import Books, opened
from tokenworks.accounts.budget_rows import Budget
from tokenworks.accounts.keys import NewKey
from tokenworks.gateway.policies import PolicyFile
from upstream_replies import Script
from upstream_server import UpstreamServer, upstream_server

BACKENDS = """
[[backends]]
name = "near"
url = "{near}"
tier = "site"
clearance = "secret"
models = {{ helper = "their-model" }}
energy_j_per_token = 0.5

[[backends]]
name = "far"
url = "{far}"
tier = "cloud"
clearance = "internal"
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
def books(tmp_path: Path) -> Iterator[Books]:
    with opened(f"sqlite:///{tmp_path / 'books.db'}", tmp_path / "secret") as found:
        yield found


@contextmanager
def served(
    folder: Path, near: UpstreamServer, far: UpstreamServer, books: Books
) -> Iterator[Serving]:
    path = folder / "policies.toml"
    path.write_text(BACKENDS.format(near=near.url, far=far.url))
    with serving(policies=PolicyFile(path), books=books) as server:
        yield server


def key_of(books: Books, role: str) -> dict[str, str]:
    key = asyncio.run(books.keys.create(NewKey(tenant="acme", role=role), actor="test"))
    return {"authorization": f"Bearer {key.text}"}


def ask(server: Serving, headers: dict[str, str], label: str = "internal") -> httpx2.Response:
    body = {"model": "helper", "messages": [{"role": "user", "content": "Say hello."}]}
    named = {**headers, "x-tokenworks-label": label}
    return httpx2.post(f"{server.url}/v1/chat/completions", json=body, headers=named, timeout=30)


def shown(server: Serving, headers: dict[str, str]) -> dict[str, float]:
    reply = httpx2.get(f"{server.url}/metrics", headers=headers)
    assert reply.status_code == 200
    lines = (line for line in reply.text.splitlines() if not line.startswith("#"))
    pairs = (line.rsplit(" ", 1) for line in lines)
    return {name: float(value) for name, value in pairs}


def test_money_backends_failovers_rules_and_queues_show(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, books: Books
) -> None:
    admin = key_of(books, "admin")
    with served(tmp_path, near, far, books) as server:
        assert ask(server, admin, "private").status_code == 200
        near.script = Script(fault="status", status=500)
        assert ask(server, admin).status_code == 200
        assert ask(server, admin, "private").status_code == 503
        asyncio.run(
            books.budgets.set(Budget(holder="tenant:acme", period="total", tokens=1), actor="test")
        )
        assert ask(server, admin).status_code == 429
        found = shown(server, admin)

    money = 'tokenworks_money_micro_dollars_total{backend="far",model="helper"}'
    assert found[money] > 0
    assert found['tokenworks_tenant_money_micro_dollars_total{tenant="acme"}'] == found[money]
    requests = "tokenworks_gateway_requests_total"
    assert found[requests + '{backend="near",model="helper",status="answered"}'] == 1
    assert found[requests + '{backend="far",model="helper",status="answered"}'] == 1
    assert found[requests + '{backend="near",model="helper",status="failed"}'] == 1
    assert found[requests + '{backend="none",model="helper",status="refused"}'] == 1
    assert found['tokenworks_attempts_total{backend="near",outcome="failed"}'] == 2
    assert found['tokenworks_failovers_total{backend="far",how="unseen"}'] == 1
    assert found['tokenworks_ruled_out_total{backend="far",rule="label"}'] == 2
    assert found['tokenworks_refusals_total{code="insufficient_quota"}'] == 1
    assert found['tokenworks_refusals_total{code="backend_unavailable"}'] == 1
    assert found['tokenworks_energy_joules_total{backend="near",model="helper"}'] > 0
    assert found['tokenworks_backend_breaker{backend="near"}'] == 0
    assert found['tokenworks_backend_in_flight{backend="far"}'] == 0
    assert found["tokenworks_ledger_waiting"] == 0
    assert found["tokenworks_ledger_unsettled"] == 0
    assert found["tokenworks_requests_running"] == 0


def test_an_open_breaker_shows(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, books: Books
) -> None:
    admin = key_of(books, "admin")
    near.script = Script(fault="reset")
    with served(tmp_path, near, far, books) as server:
        for _ in range(5):
            assert ask(server, admin).status_code == 200
        found = shown(server, admin)

    assert found['tokenworks_backend_breaker{backend="near"}'] == 2
    assert found['tokenworks_backend_available{backend="near"}'] == 0


def test_what_others_spend_shows_to_nobody_who_may_not_see_it(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, books: Books
) -> None:
    admin, service, user = (key_of(books, role) for role in ("admin", "service", "user"))
    with served(tmp_path, near, far, books) as server:
        near.script = Script(fault="status", status=500)
        assert ask(server, user).status_code == 200
        refused = httpx2.get(f"{server.url}/metrics", headers=user)
        assert any("tenant" in name for name in shown(server, admin))
        assert not any("tenant" in name for name in shown(server, service))

    assert refused.status_code == 403
    assert "tokenworks_" not in refused.text

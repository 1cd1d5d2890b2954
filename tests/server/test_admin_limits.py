"""Rate limits over HTTP: they hold for the very next request."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from hybrid_servers import key_for
from serving import Serving, serving
from tokenworks.accounts.books import Books, opened
from tokenworks.gateway.scripted import ScriptedBackend


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    with opened(f"sqlite:///{tmp_path / 'books.db'}", tmp_path / "secret") as found:
        yield found


@pytest.fixture
def server(books: Books) -> Iterator[Serving]:
    with serving(ScriptedBackend(), books=books) as running:
        yield running


def asked(server: Serving, key: str) -> httpx2.Response:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi."}]}
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.post(f"{server.url}/v1/chat/completions", json=body, headers=headers)


def test_a_tenant_s_limit_is_set_and_lifted(server: Serving, books: Books) -> None:
    user, admin = key_for(books, user="ada"), key_for(books, tenant="us", role="admin")
    url, headers = f"{server.url}/admin/limits", {"authorization": f"Bearer {admin}"}

    def put(**wanted: object) -> int:
        return httpx2.put(url, json=wanted, headers=headers).status_code

    assert put(holder="tenant:acme", requests_per_minute=1) == 204
    assert httpx2.get(url, headers=headers).json()["data"] == [
        {"holder": "tenant:acme", "requests_per_minute": 1, "tokens_per_minute": None}
    ]
    assert asked(server, user).status_code == 200
    refused = asked(server, user)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) > 0

    gone = {"holder": "tenant:acme"}
    assert httpx2.delete(url, params=gone, headers=headers).status_code == 204
    assert asked(server, user).status_code == 200
    assert httpx2.delete(url, params=gone, headers=headers).status_code == 404
    assert put(holder="acme", requests_per_minute=1) == 400
    assert put(holder="user:acme/ada", tokens_per_minute=-1) == 400


def test_only_an_administrator_sees_or_changes_limits(server: Serving, books: Books) -> None:
    url = f"{server.url}/admin/limits"
    headers = {"authorization": f"Bearer {key_for(books, role='accountant')}"}

    assert httpx2.get(url, headers=headers).status_code == 403
    assert httpx2.put(url, json={"holder": "tenant:acme"}, headers=headers).status_code == 403
    assert httpx2.delete(url, params={"holder": "x"}, headers=headers).status_code == 403
    assert httpx2.get(url).status_code == 401

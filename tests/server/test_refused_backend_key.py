"""A backend that refuses the gateway's own key: the client's key is not what is wrong."""

from collections.abc import Iterator
from pathlib import Path

import anthropic
import httpx2
import openai
import pytest

from hybrid_servers import client_of, described, hybrid, key_for
from tokenworks.accounts.books import Books, opened
from upstream_replies import Script
from upstream_server import UpstreamServer, upstream_server

ASK = [{"role": "user", "content": "Hi."}]


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    with opened(f"sqlite:///{tmp_path / 'books.db'}", tmp_path / "secret") as found:
        yield found


@pytest.fixture
def far() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@pytest.mark.parametrize("status", [401, 403])
def test_the_client_hears_that_the_gateway_is_not_let_in(
    tmp_path: Path, books: Books, far: UpstreamServer, status: int
) -> None:
    key = key_for(books)
    far.script = Script(fault="status", status=status, message="invalid api key sk-theirs")
    with (
        hybrid(tmp_path, described(far, "far", "site", "secret"), books=books) as server,
        client_of(server, key) as client,
    ):
        # The second time it is not even asked.
        for code in ("backend_key_refused", "backend_unavailable"):
            with pytest.raises(openai.InternalServerError) as failed:
                client.chat.completions.create(model="helper", messages=ASK)  # type: ignore[arg-type]
            assert failed.value.status_code in (502, 503)
            assert failed.value.code == code
            assert "far" in failed.value.message
            assert "not yours" in failed.value.message
            assert "sk-theirs" not in failed.value.message
    assert len(far.asked) == 1


def test_anthropic_s_client_does_not_take_it_for_its_own_key(
    tmp_path: Path, far: UpstreamServer
) -> None:
    far.script = Script(fault="status", status=401)
    with (
        hybrid(tmp_path, described(far, "far", "site", "secret")) as server,
        anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as client,
        pytest.raises(anthropic.InternalServerError) as failed,
    ):
        client.messages.create(model="helper", max_tokens=5, messages=ASK)  # type: ignore[arg-type]
    assert failed.value.status_code in (502, 503)


def test_others_are_asked_and_the_operator_sees_which_one_it_is(
    tmp_path: Path, books: Books, far: UpstreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    admin = {"authorization": f"Bearer {key_for(books, role='admin')}"}
    far.script = Script(fault="status", status=401)
    with upstream_server() as other:
        both = (
            described(far, "far", "site", "secret"),
            described(other, "next", "cloud", "secret"),
        )
        with hybrid(tmp_path, *both, books=books) as server:
            with client_of(server, key_for(books)) as client:
                answer = client.chat.completions.create(model="helper", messages=ASK)  # type: ignore[arg-type]
            assert answer.choices[0].message.content == "Hello, world!"
            listed = httpx2.get(f"{server.url}/admin/backends", headers=admin).json()["data"]
    states = {one["name"]: one for one in listed}
    assert states["next"]["reason"] == ""
    assert "refuses" in states["far"]["reason"]
    assert "key" in states["far"]["reason"]
    told = [one.getMessage() for one in caplog.records if one.levelname in ("WARNING", "ERROR")]
    assert any("'far'" in one and "refuses this gateway's own key" in one for one in told)

"""Conversations that are kept in the database: across restarts and kills, for their owner alone."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import openai
import pytest

from factory_process import PROGRAM, running_factory, surroundings
from hybrid_servers import client_of, described, hybrid, key_for
from serving import Serving
from tokenworks.accounts.books import Books, opened
from tokenworks.server.kept import Kept
from tokenworks.server.kept_rows import DatabaseStore
from tokenworks.server.settings import ServerSettings
from tokenworks.store.dialects import StoreError
from upstream_replies import Script
from upstream_server import UpstreamServer, upstream_server

HELLO = "Hello, world!"


@pytest.fixture
def site() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@contextmanager
def books_at(url: str, folder: Path) -> Iterator[Books]:
    with opened(url, folder / "secret") as found:
        yield found


def statuses(server: Serving, identity: str, key: str) -> list[int]:
    """Of everything that can be asked about one response."""
    url = f"{server.url}/v1/responses"
    headers = {"authorization": f"Bearer {key}"}
    goes_on = {"model": "helper", "input": "x", "previous_response_id": identity}
    return [
        httpx2.get(f"{url}/{identity}", headers=headers).status_code,
        httpx2.get(f"{url}/{identity}/input_items", headers=headers).status_code,
        httpx2.post(f"{url}/{identity}/cancel", headers=headers, json={}).status_code,
        httpx2.delete(f"{url}/{identity}", headers=headers).status_code,
        httpx2.post(url, headers=headers, json=goes_on).status_code,
    ]


def test_a_conversation_goes_on_after_a_restart(
    tmp_path: Path, site: UpstreamServer, database_url: str
) -> None:
    near = described(site, "rack", "site", "secret")
    with books_at(database_url, tmp_path) as books:
        key = key_for(books)
        with hybrid(tmp_path, near, books=books) as server, client_of(server, key) as client:
            first = client.responses.create(model="helper", input="My plan.")
    with (
        books_at(database_url, tmp_path) as books,
        hybrid(tmp_path, near, books=books) as server,
        client_of(server, key) as client,
    ):
        assert client.responses.retrieve(first.id).output_text == HELLO
        client.responses.create(model="helper", input="Go on.", previous_response_id=first.id)
    said = [message["content"] for message in site.asked[-1].body["messages"]]

    assert said == ["My plan.", HELLO, "Go on."]


def test_a_label_outlives_a_restart(tmp_path: Path, site: UpstreamServer) -> None:
    url = f"sqlite:///{tmp_path / 'books.db'}"
    headers = {"x-tokenworks-label": "secret"}
    with books_at(url, tmp_path) as books:
        key = key_for(books)
        near = described(site, "rack", "site", "secret")
        with hybrid(tmp_path, near, books=books) as server, client_of(server, key) as client:
            first = client.responses.create(model="helper", input="Hi", extra_headers=headers)
    lower = described(site, "rack", "site", "private")
    with (
        books_at(url, tmp_path) as books,
        hybrid(tmp_path, lower, books=books) as server,
        client_of(server, key) as client,
        pytest.raises(openai.PermissionDeniedError),
    ):
        client.responses.create(model="helper", input="Go on.", previous_response_id=first.id)


def test_no_other_key_tenant_or_user_can_tell_that_it_is_there(
    tmp_path: Path, site: UpstreamServer
) -> None:
    with books_at(f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as books:
        owner, another = key_for(books, user="ada"), key_for(books, user="ada")
        strangers = [
            key_for(books),
            key_for(books, user="bob"),
            key_for(books, tenant="other", user="ada"),
            key_for(books, role="admin"),
        ]
        reader = key_for(books, user="ada", role="accountant")
        near = described(site, "rack", "site", "secret")
        with hybrid(tmp_path, near, books=books) as server, client_of(server, owner) as client:
            kept = client.responses.create(model="helper", input="My plan.")
            for stranger in strangers:
                told = statuses(server, kept.id, stranger)
                assert told == statuses(server, "resp_0", stranger) == [404] * 5
            assert statuses(server, kept.id, reader)[:4] == [403] * 4
            assert statuses(server, kept.id, another) == [200, 200, 400, 200, 404]


def test_what_shall_not_be_kept_is_not(tmp_path: Path, site: UpstreamServer) -> None:
    settings = ServerSettings(port=0, drain_seconds=0.0, responses_label="internal")
    near = described(site, "rack", "site", "secret")
    with books_at(f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as books:
        key = key_for(books)
        with (
            hybrid(tmp_path, near, books=books, settings=settings) as server,
            client_of(server, key) as client,
        ):
            told = [
                client.responses.create(model="helper", input="Hi", store=False),
                client.responses.create(model="helper", input="I am ada.lovelace@example.org"),
            ]
            events = list(
                client.responses.create(
                    model="helper", input="I am ada.lovelace@example.org", stream=True
                )
            )
            assert events[-1].type == "response.completed"
            told.append(events[-1].response)
            site.script = Script(pieces=("Write to ada.", "lovelace@example.org."))
            told.append(client.responses.create(model="helper", input="Hi"))
            site.script = Script()
            metadata = {"card": "4111 1111 1111 1111"}
            told.append(client.responses.create(model="helper", input="Hi", metadata=metadata))
            kept = client.responses.create(model="helper", input="Hi")
        rows = books.database.read_now(lambda t: t.rows("SELECT id FROM responses"))

    assert [one.model_dump()["store"] for one in told] == [False] * 5
    assert kept.model_dump()["store"]
    assert rows == [(kept.id,)]


def test_an_answer_that_cannot_be_kept_is_an_answer_and_says_so(
    tmp_path: Path, site: UpstreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(store: DatabaseStore, kept: Kept) -> bool:
        raise StoreError("the disk is full")

    monkeypatch.setattr(DatabaseStore, "put", full)
    near = described(site, "rack", "site", "secret")
    with books_at(f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as books:
        key = key_for(books)
        with hybrid(tmp_path, near, books=books) as server, client_of(server, key) as client:
            whole = client.responses.create(model="helper", input="Hi")
            *_, last = client.responses.create(model="helper", input="Hi", stream=True)

    assert last.type == "response.completed"
    for answer in (whole, last.response):
        assert answer.output_text == HELLO
        assert answer.model_dump()["store"] is False


def test_items_are_listed_a_page_at_a_time(tmp_path: Path, site: UpstreamServer) -> None:
    with (
        hybrid(tmp_path, described(site, "rack", "site", "secret")) as server,
        client_of(server) as client,
    ):
        said = [{"role": "user", "content": f"{number}"} for number in range(7)]
        made = client.responses.create(model="helper", input=said)  # type: ignore[arg-type]
        for order, wanted in (("asc", list("0123456")), ("desc", list("6543210"))):
            pages = client.responses.input_items.list(made.id, limit=3, order=order)  # type: ignore[arg-type]
            assert [item.content[0].text for item in pages] == wanted
            assert len(pages.data) == 3
            assert pages.has_more
        for wrong in ({"limit": 0}, {"limit": 101}, {"order": "up"}, {"after": "msg_0"}):
            with pytest.raises(openai.BadRequestError):
                client.responses.input_items.list(made.id, **wrong)  # type: ignore[arg-type]
        with pytest.raises(openai.BadRequestError, match="background"):
            client.responses.cancel(made.id)
        with pytest.raises(openai.BadRequestError, match="stream"):
            client.responses.retrieve(made.id, stream=True)


def test_what_was_completed_survives_kill_9(tmp_path: Path, site: UpstreamServer) -> None:
    (tmp_path / "policies.toml").write_text(described(site, "rack", "site", "secret"))
    arguments = ("--model", "none", "--policies", str(tmp_path / "policies.toml"))
    process = subprocess.Popen(
        [*PROGRAM, "up", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=surroundings(tmp_path),
        cwd=tmp_path,
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().split(" at ")[1].strip()
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
            for event in client.responses.create(model="helper", input="My plan.", stream=True):
                if event.type == "response.completed":
                    break
            process.kill()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with running_factory(tmp_path, *arguments) as address:
        read = httpx2.get(
            f"{address}/v1/responses/{event.response.id}",  # type: ignore[union-attr]
            headers={"authorization": "Bearer none"},
        )

    assert read.status_code == 200
    assert read.json()["output"][0]["content"][0]["text"] == HELLO

"""Embeddings by the official client: labels, masks, books and failover as of any other request."""

import asyncio
import base64
import struct
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from hybrid_servers import client_of, described, hybrid, key_for, seen
from serving import Serving
from tokenworks.accounts.books import Books, opened
from tokenworks.accounts.budget_rows import Budget
from tokenworks.accounts.usage import usage
from upstream_replies import Script, embeddings
from upstream_server import UpstreamServer, upstream_server

EMBEDS = 'abilities = ["embeddings"]'
MAIL = "Write to ada.lovelace@example.org for me."


@pytest.fixture
def site() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@pytest.fixture
def cloud() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    with opened(f"sqlite:///{tmp_path / 'books.db'}", tmp_path / "secret") as found:
        yield found


def vector_of(text: object) -> list[float]:
    """As the scripted backend makes it, in the precision of base64."""
    (made,) = embeddings({"input": [text]})["data"]
    return list(struct.unpack("<4f", struct.pack("<4f", *made["embedding"])))


def post(server: Serving, body: dict[str, object], **headers: str) -> httpx2.Response:
    return httpx2.post(
        f"{server.url}/v1/embeddings", json={"model": "helper", **body}, headers=headers
    )


def test_the_official_client_gets_a_vector_for_each_input(
    tmp_path: Path, site: UpstreamServer
) -> None:
    near = described(site, "rack", "site", "secret", EMBEDS)
    with hybrid(tmp_path, near) as server, client_of(server) as client:
        one = client.embeddings.create(model="Helper", input="hello", user="ada")
        many = client.embeddings.create(model="helper", input=["a", "b", "c"])
        floats = client.embeddings.create(
            model="helper", input=["a", "b"], encoding_format="float", dimensions=4
        )
        tokens = client.embeddings.create(model="helper", input=[[1, 2, 3], [4]])
        flat = client.embeddings.create(model="helper", input=[1, 2, 3])

    assert one.data[0].embedding == vector_of("hello")
    assert (one.model, one.object, one.usage.prompt_tokens) == ("helper", "list", 1)
    assert [found.embedding for found in many.data] == [vector_of(text) for text in "abc"]
    assert [found.index for found in many.data] == [0, 1, 2]
    assert floats.data[1].embedding == pytest.approx(vector_of("b"))
    assert tokens.data[0].embedding == flat.data[0].embedding == vector_of([1, 2, 3])
    assert [asked.body for asked in site.asked][2] == {
        "model": "their-model",
        "input": ["a", "b"],
        "dimensions": 4,
    }
    assert "ada" not in seen(site)


@pytest.mark.parametrize("wanted", ["float", "base64"])
@pytest.mark.parametrize("given", ["float", "base64"])
def test_each_encoding_is_given_whatever_the_backend_knows(
    tmp_path: Path, site: UpstreamServer, wanted: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "upstream_replies.embeddings", lambda body: embeddings({**body, "encoding_format": given})
    )
    with hybrid(tmp_path, described(site, "rack", "site", "secret", EMBEDS)) as server:
        answer = post(server, {"input": "hello", "encoding_format": wanted}).json()
    vector = answer["data"][0]["embedding"]
    if wanted == "base64":
        vector = list(struct.unpack("<4f", base64.b64decode(vector)))

    assert vector == pytest.approx(vector_of("hello"))


@pytest.mark.parametrize(
    "nonsense",
    [
        {"data": []},
        {"data": [{"embedding": []}]},
        {"data": [{"embedding": "!"}]},
        {"data": [{"embedding": ["x"]}]},
        {"data": [{"embedding": [1.0], "index": 1}]},
        {"data": [{"embedding": None}]},
    ],
)
def test_a_reply_that_fits_no_request_is_the_backend_s_fault(
    tmp_path: Path,
    site: UpstreamServer,
    nonsense: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("upstream_replies.embeddings", lambda body: nonsense)
    with hybrid(tmp_path, described(site, "rack", "site", "secret", EMBEDS)) as server:
        answer = post(server, {"input": "hello"})

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "backend_unavailable"


@pytest.mark.parametrize(
    ("inputs", "label"),
    [(["fine", MAIL], ""), (MAIL, ""), ("my plan", "secret"), ([[1, 2]], ""), ([5, 6], "")],
)
def test_private_input_never_reaches_a_backend_that_may_not_see_it(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer, inputs: object, label: str
) -> None:
    """The near backend is down, and the texts go online; token ids may say anything."""
    near = described(site, "rack", "site", "secret", EMBEDS)
    far = described(cloud, "far", "cloud", "internal", EMBEDS)
    headers = {"x-tokenworks-label": label} if label else {}
    with hybrid(tmp_path, near, far) as server:
        assert post(server, {"input": inputs}, **headers).status_code == 200
        site.script = Script(fault="status")
        assert post(server, {"input": inputs}, **headers).status_code == 503
    with hybrid(tmp_path, far) as server:
        refused = post(server, {"input": inputs}, **headers)
    assert refused.json()["error"]["code"] == "label_not_allowed"
    assert cloud.asked == []


def test_what_may_be_masked_goes_out_masked_and_alike_whatever_is_beside_it(
    tmp_path: Path, cloud: UpstreamServer
) -> None:
    far = described(cloud, "far", "cloud", "internal", EMBEDS)
    other = "Or to grace.hopper@example.org."
    with hybrid(tmp_path, far, policies='[labels]\nmask = ["email"]\n') as server:
        assert post(server, {"input": [other, MAIL]}).status_code == 200
        assert post(server, {"input": MAIL}).status_code == 200
    together, alone = (asked.body["input"] for asked in cloud.asked)

    assert together[1] == alone[0]
    assert "lovelace" not in seen(cloud)
    assert "hopper" not in seen(cloud)


def test_another_backend_is_asked_where_one_fails(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer
) -> None:
    near = described(site, "rack", "site", "secret", EMBEDS)
    far = described(cloud, "far", "cloud", "internal", EMBEDS)
    site.script = Script(fault="status")
    with hybrid(tmp_path, near, far) as server:
        assert post(server, {"input": "hello"}).status_code == 200
    assert [len(site.asked), len(cloud.asked)] == [1, 1]


def test_without_a_backend_that_makes_them_it_is_said_what_to_configure(
    tmp_path: Path, site: UpstreamServer
) -> None:
    with hybrid(tmp_path, described(site, "rack", "site", "secret")) as server:
        refused = post(server, {"input": "hello"})
    error = refused.json()["error"]

    assert refused.status_code == 400
    assert "abilities = ['embeddings']" in error["message"]
    assert error["param"] == "model"
    assert site.asked == []


def test_it_is_reserved_for_settled_and_in_the_ledger_once(
    tmp_path: Path, cloud: UpstreamServer, books: Books
) -> None:
    key = key_for(books)
    budget = Budget(holder="tenant:acme", period="total", money=100)
    asyncio.run(books.budgets.set(budget, actor="test"))
    far = described(cloud, "far", "cloud", "internal", EMBEDS)
    with hybrid(tmp_path, far, books=books) as server, client_of(server, key) as client:
        answered, refused = 0, None
        while refused is None:
            try:
                client.embeddings.create(model="helper", input=["a", "b", "c"])
                answered += 1
            except openai.RateLimitError as error:
                refused = error
        (row,) = books.database.read_now(lambda transaction: usage(transaction, by=("tenant",)))
    assert refused.code == "insufficient_quota"
    assert (row.requests, row.money, row.completion_tokens) == (answered, answered * 3, 0)
    assert 0 < row.money <= 100
    assert len(cloud.asked) == answered


def test_keys_decide_who_may_ask_for_which_model(
    tmp_path: Path, site: UpstreamServer, books: Books
) -> None:
    other, accountant = key_for(books, models=("x-*",)), key_for(books, role="accountant")
    near = described(site, "rack", "site", "secret", EMBEDS)
    with hybrid(tmp_path, near, books=books) as server:
        statuses = [
            post(server, {"input": "a"}, authorization=f"Bearer {key}").status_code
            for key in ("wrong", other, accountant)
        ]
    assert statuses == [401, 403, 403]
    assert site.asked == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "empty"),
        ({"input": ["a", ""]}, "empty"),
        ({"input": ["a", [1]]}, "not both"),
        ({"input": [[-1]]}, "token ids"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimension": 4}, "id you mean 'dimensions'"),
        ({}, "'input' is missing"),
        ({"input": "a", "model": "gpt-9"}, "not served"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, site: UpstreamServer, wrong: dict[str, object], said: str
) -> None:
    with hybrid(tmp_path, described(site, "rack", "site", "secret", EMBEDS)) as server:
        answer = post(server, wrong)

    assert 400 <= answer.status_code < 500
    assert said in answer.json()["error"]["message"]
    assert site.asked == []

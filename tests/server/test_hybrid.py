"""The whole way of a request over tiers: labels, keys, budgets, failover, the books."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from serving import Serving, serving
from tokenworks.accounts.books import Books, opened
from tokenworks.accounts.budget_rows import Budget
from tokenworks.accounts.keys import NewKey
from tokenworks.accounts.ledger import page
from tokenworks.accounts.usage import usage
from tokenworks.gateway.policies import PolicyFile
from upstream_replies import Script
from upstream_server import UpstreamServer, upstream_server

ASK = [{"role": "user", "content": "Say hello."}]
MAIL = [{"role": "user", "content": "Write to ada.lovelace@example.org for me."}]
HELLO = "Hello, world!"
BACKEND = """
[[backends]]
name = "{name}"
url = "{url}"
tier = "{tier}"
clearance = "{clearance}"
models = {{ helper = "their-model" }}
allow_private = true
{more}
"""


def backend(server: UpstreamServer, name: str, tier: str, clearance: str, more: str = "") -> str:
    if tier == "cloud":
        more += '\nprices = { input = "1.00", output = "2.00" }'
    return BACKEND.format(name=name, url=server.url, tier=tier, clearance=clearance, more=more)


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


@contextmanager
def hybrid(
    folder: Path, *backends: str, policies: str = "", books: Books | None = None
) -> Iterator[Serving]:
    path = folder / "policies.toml"
    path.write_text(policies + "".join(backends))
    environment = {"CLOUD_KEY": "the-cloud-s-own-key"}
    with serving(policies=PolicyFile(path), books=books, environment=environment) as server:
        yield server


def client_of(server: Serving, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=30.0)


def say(
    server: Serving,
    messages: list[dict[str, Any]] = ASK,
    *,
    label: str = "",
    key: str = "none",
    stream: bool = False,
    **more: Any,
) -> str:
    headers = {"x-tokenworks-label": label} if label else {}
    with client_of(server, key) as client:
        answer = client.chat.completions.create(
            model="helper",
            messages=messages,  # type: ignore[arg-type]
            stream=stream,
            extra_headers=headers,
            **more,
        )
        if not stream:
            return answer.choices[0].message.content or ""
        return "".join(event.choices[0].delta.content or "" for event in answer if event.choices)


def key_for(books: Books, **more: Any) -> str:
    return asyncio.run(books.keys.create(NewKey(tenant="acme", **more), actor="test")).text


def seen(server: UpstreamServer) -> str:
    """All that a backend was ever told."""
    return "".join(one.raw.decode() for one in server.asked if one.method == "POST")


def test_the_nearest_backend_answers_and_another_one_where_it_fails(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer
) -> None:
    both = (backend(site, "rack", "site", "secret"), backend(cloud, "far", "cloud", "internal"))
    with hybrid(tmp_path, *both) as server:
        assert say(server) == HELLO
        assert (len(site.asked), len(cloud.asked)) == (1, 0)
        for fault in ("status", "reset", "garbage", "redirect"):
            site.scripts.append(Script(fault=fault, status=302 if fault == "redirect" else 500))
            assert say(server, stream=True) == HELLO
    assert len(cloud.asked) >= 3


@pytest.mark.parametrize("label", ["private", "secret"])
def test_a_labelled_request_never_reaches_a_backend_that_may_not_see_it(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer, label: str
) -> None:
    """Silent fall-back to a cloud: the near model is down, and the text goes online."""
    both = (backend(site, "rack", "site", "secret"), backend(cloud, "far", "cloud", "internal"))
    with hybrid(tmp_path, *both) as server:
        site.script = Script(fault="reset")
        with pytest.raises(openai.APIStatusError) as refused:
            say(server, label=label)
        assert refused.value.status_code == 503
        assert cloud.asked == []
    with hybrid(tmp_path, both[1]) as server, pytest.raises(openai.PermissionDeniedError) as gone:
        say(server, label=label)
    assert gone.value.code == "label_not_allowed"
    assert label in gone.value.message
    assert cloud.asked == []


def test_personal_data_stays_and_goes_on_only_masked(tmp_path: Path, cloud: UpstreamServer) -> None:
    far = backend(cloud, "far", "cloud", "internal")
    with hybrid(tmp_path, far) as server, pytest.raises(openai.PermissionDeniedError):
        say(server, MAIL)
    assert cloud.asked == []

    masking = '[labels]\nmask = ["email"]\n'
    with hybrid(tmp_path, far, policies=masking) as server:
        say(server, MAIL)
        placeholder = cloud.asked[0].body["messages"][0]["content"].split()[2]
        cut = len(placeholder) // 2
        cloud.script = Script(pieces=("Dear ", placeholder[:cut], placeholder[cut:], "!"))
        assert say(server, MAIL, stream=True) == "Dear ada.lovelace@example.org!"
        assert say(server, MAIL) == "Dear ada.lovelace@example.org!"
    assert "lovelace" not in seen(cloud)


def test_what_a_nearer_backend_answered_is_not_shown_unmasked(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer
) -> None:
    """The first sees the address and says it; the second may go on only where it may see that."""
    near = backend(site, "rack", "site", "secret")
    far = backend(cloud, "far", "cloud", "internal", 'continues = "continue_final_message"')
    site.script = Script(pieces=("Dear ", "ada.lovelace@example.org", ","), fault="reset", at=4)
    masking = '[labels]\nmask = ["email"]\n'
    with hybrid(tmp_path, near, far, policies=masking) as server, pytest.raises(openai.APIError):
        say(server, MAIL, stream=True)
    assert "lovelace" not in seen(cloud)


@pytest.mark.parametrize(
    "hidden",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"const": 0}}}]},
        {"messages": [0, 1]},
    ],
)
def test_no_part_of_a_request_is_overlooked(
    tmp_path: Path, cloud: UpstreamServer, hidden: dict[str, Any]
) -> None:
    """Numbers in schemas, ids and names of calls: they go to the backend like any text."""
    call = {
        "id": "ada.lovelace@example.org",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
    }
    if "tools" in hidden:
        hidden["tools"][0]["function"]["parameters"]["const"] = 4111111111111111
        body = {**hidden, "messages": ASK}
    else:
        answer = {"role": "tool", "tool_call_id": call["id"], "content": "done"}
        body = {
            "messages": [*ASK, {"role": "assistant", "content": "", "tool_calls": [call]}, answer]
        }
    far = backend(cloud, "far", "cloud", "internal", 'abilities = ["tools"]')
    with hybrid(tmp_path, far) as server:
        url = f"{server.url}/v1/chat/completions"
        refused = httpx2.post(url, json={"model": "helper", **body})
        assert refused.json()["error"]["code"] == "label_not_allowed"
    assert cloud.asked == []


def test_a_header_never_lowers_a_label(tmp_path: Path, cloud: UpstreamServer) -> None:
    far = backend(cloud, "far", "cloud", "public")
    with hybrid(tmp_path, far) as server, pytest.raises(openai.PermissionDeniedError):
        say(server, label="public")  # what nobody has labelled is internal
    with hybrid(tmp_path, far, policies="[labels]\ndefault = 'public'\n") as server:
        assert say(server) == HELLO


def test_what_cannot_be_masked_still_goes_where_it_may_be_seen(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer
) -> None:
    tools = 'abilities = ["tools"]'
    both = (
        backend(site, "rack", "site", "secret", tools),
        backend(cloud, "far", "cloud", "internal", tools),
    )
    tool = {"type": "function", "function": {"name": "f", "parameters": {"const": 13812345678}}}
    masking = '[labels]\nmask = ["phone"]\n'
    with hybrid(tmp_path, *both, policies=masking) as server:
        assert say(server, tools=[tool]) == HELLO
        site.script = Script(fault="reset")
        with pytest.raises(openai.APIStatusError):
            say(server, tools=[tool])
    assert cloud.asked == []


def test_a_masked_conversation_goes_on_by_its_id(tmp_path: Path, cloud: UpstreamServer) -> None:
    far = backend(cloud, "far", "cloud", "internal")
    masking = '[labels]\nmask = ["email"]\n'
    with hybrid(tmp_path, far, policies=masking) as server, client_of(server) as client:
        first = client.responses.create(model="helper", input=MAIL[0]["content"])
        client.responses.create(model="helper", input="Go on.", previous_response_id=first.id)
    assert len(cloud.asked) == 2
    assert "lovelace" not in seen(cloud)


def test_where_tokens_cost_money_an_answer_has_an_end(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer
) -> None:
    more = "answer_tokens = 77"
    for server, tier in ((cloud, "cloud"), (site, "site")):
        with hybrid(tmp_path, backend(server, "one", tier, "internal", more)) as running:
            say(running)
    assert cloud.asked[0].body["max_tokens"] == 77
    assert "max_tokens" not in site.asked[0].body


def test_an_anthropic_stream_does_not_begin_again_unmarked(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer
) -> None:
    both = (backend(site, "one", "edge", "secret"), backend(cloud, "two", "site", "secret"))
    site.script = Script(fault="reset", at=3)
    policies = "[failover]\nwhen_broken = 'restart'\n"
    body = {"model": "helper", "max_tokens": 9, "stream": True, "messages": ASK}
    with hybrid(tmp_path, *both, policies=policies) as server:
        told = httpx2.post(f"{server.url}/v1/messages", json=body).text
    assert told.count("Hello") == 1
    assert "event: error" in told
    assert "message_stop" not in told


def test_a_label_stays_with_the_conversation(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer
) -> None:
    both = (backend(site, "rack", "site", "secret"), backend(cloud, "far", "cloud", "internal"))
    with hybrid(tmp_path, *both) as server, client_of(server) as client:
        first = client.responses.create(
            model="helper", input="My plan.", extra_headers={"x-tokenworks-label": "secret"}
        )
        site.script = Script(fault="reset")
        with pytest.raises(openai.APIStatusError):
            client.responses.create(model="helper", input="Go on.", previous_response_id=first.id)
        with pytest.raises(openai.APIStatusError):  # and it never falls again
            client.responses.create(
                model="helper",
                input="Go on.",
                previous_response_id=first.id,
                extra_headers={"x-tokenworks-label": "public"},
            )
    assert cloud.asked == []


def test_a_key_s_label_is_its_requests_least(
    tmp_path: Path, cloud: UpstreamServer, books: Books
) -> None:
    private, plain = key_for(books, label="private"), key_for(books)
    far = backend(cloud, "far", "cloud", "internal")
    with hybrid(tmp_path, far, books=books) as server:
        assert say(server, key=plain) == HELLO
        for label in ("", "public", "private"):
            with pytest.raises(openai.PermissionDeniedError):
                say(server, key=private, label=label)
    assert len(cloud.asked) == 1


def test_only_known_keys_come_in_and_only_to_their_models(
    tmp_path: Path, site: UpstreamServer, books: Books
) -> None:
    good, other = key_for(books), key_for(books, models=("other-*",))
    with hybrid(tmp_path, backend(site, "rack", "site", "secret"), books=books) as server:
        assert say(server, key=good) == HELLO
        for wrong in ("none", good[:-1], good + "x", ""):
            with pytest.raises(openai.AuthenticationError):
                say(server, key=wrong or "''")
        with pytest.raises(openai.PermissionDeniedError):
            say(server, key=other)
        asyncio.run(books.keys.revoke(good.split("_")[1], actor="test"))
        with pytest.raises(openai.AuthenticationError):
            say(server, key=good)


def test_a_backend_sees_its_own_key_and_no_caller_s(
    tmp_path: Path, cloud: UpstreamServer, books: Books
) -> None:
    key = key_for(books)
    cloud.key = "the-cloud-s-own-key"
    far = backend(cloud, "far", "cloud", "internal", 'api_key_variable = "CLOUD_KEY"')
    with hybrid(tmp_path, far, books=books) as server:
        assert say(server, key=key) == HELLO
    assert key not in json.dumps([one.headers for one in cloud.asked]) + seen(cloud)


def test_a_budget_is_never_exceeded_and_the_ledger_has_each_request_once(
    tmp_path: Path, cloud: UpstreamServer, books: Books
) -> None:
    key = key_for(books)
    asyncio.run(
        books.budgets.set(Budget(holder="tenant:acme", period="total", money=100), actor="test")
    )
    far = backend(cloud, "far", "cloud", "internal")
    with hybrid(tmp_path, far, books=books) as server:
        answered, refused = 0, None
        while refused is None:
            try:
                assert say(server, key=key, max_tokens=10) == HELLO
                answered += 1
            except openai.RateLimitError as error:
                refused = error
        assert refused.code == "insufficient_quota"
        (row,) = books.database.read_now(lambda transaction: usage(transaction, by=("tenant",)))
    # 7 prompt tokens at 1 and 4 of an answer at 2 micro-dollars
    assert (row.requests, row.money) == (answered, answered * 15)
    assert 0 < row.money <= 100
    assert len(cloud.asked) == answered


def test_an_answer_goes_on_where_another_backend_broke_off(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer
) -> None:
    one = backend(site, "one", "edge", "secret", 'engine = "e"')
    two = backend(cloud, "two", "site", "secret", 'engine = "e"')
    for at in range(1, 5):
        site.scripts.append(Script(fault="reset", at=at))
        with hybrid(tmp_path, one, two) as server:
            assert say(server, stream=True) == HELLO

    two = backend(cloud, "two", "site", "secret", 'continues = "continue_final_message"')
    site.scripts.append(Script(fault="reset", at=3))
    cloud.scripts.append(Script(pieces=("ld", "!")))
    with hybrid(tmp_path, backend(site, "one", "edge", "secret"), two) as server:
        site.script = Script(pieces=("Hello", ", ", "wor"), fault="reset", at=4)
        answer = say(server, stream=True)
    begun = cloud.asked[-1].body["messages"][-1]
    assert begun["role"] == "assistant"
    assert HELLO.startswith(begun["content"])
    assert answer.startswith(begun["content"])


def test_a_slow_backend_is_hedged_and_both_are_billed(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer, books: Books
) -> None:
    key = key_for(books)
    prices = 'prices = { input = "1.00", output = "2.00" }'
    slow = backend(site, "slow", "site", "internal", prices)
    both = (slow, backend(cloud, "far", "cloud", "internal"))
    site.script = Script(pieces=("late",), delay_s=5)
    began = time.monotonic()
    with hybrid(tmp_path, *both, policies="[failover]\nhedge_after_s = 0.1\n", books=books) as it:
        assert say(it, key=key, stream=True) == HELLO
    assert time.monotonic() - began < 5
    (row,) = books.database.read_now(partial(page, since=0.0, until=2**40))
    # Whoever was overtaken has read the prompt: as many tokens as the other one counted.
    assert (row.backend, row.money, row.attempts, row.excess) == ("far", 15 + 7, 2, 0)
    assert json.loads(row.route) == [
        {"backend": "slow", "overtaken": True, "money": 7, "estimated": True},
        {"backend": "far", "money": 15},
    ]


def test_a_second_backend_that_the_budget_does_not_cover_is_not_asked(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer, books: Books
) -> None:
    key = key_for(books)
    budget = Budget(holder="tenant:acme", period="total", tokens=150)
    asyncio.run(books.budgets.set(budget, actor="test"))
    one = backend(site, "one", "edge", "secret", 'engine = "e"')
    two = backend(cloud, "two", "site", "secret", 'engine = "e"')
    site.script = Script(fault="reset", at=3)
    with hybrid(tmp_path, one, two, books=books) as server, pytest.raises(openai.APIError):
        say(server, key=key, stream=True, max_tokens=100)
    assert cloud.asked == []


def test_an_answer_nobody_can_go_on_with_ends_in_a_clean_error(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer
) -> None:
    both = (backend(site, "one", "edge", "secret"), backend(cloud, "two", "site", "secret"))
    site.script = Script(fault="reset", at=3)
    with hybrid(tmp_path, *both) as server, pytest.raises(openai.APIError, match="broke off"):
        say(server, stream=True)
    assert cloud.asked == []
    # Whoever waits for the whole answer need not know.
    with hybrid(tmp_path, *both, policies="[failover]\nwhen_broken = 'restart'\n") as server:
        assert say(server) == HELLO
    assert len(cloud.asked) == 1


def test_a_client_that_leaves_ends_the_work_behind_it(
    tmp_path: Path, site: UpstreamServer, books: Books
) -> None:
    key = key_for(books)
    site.script = Script(pieces=("x",) * 1000, delay_s=0.02)
    near = backend(site, "rack", "site", "secret")
    with (
        hybrid(tmp_path, near, books=books) as server,
        httpx2.stream(
            "POST",
            f"{server.url}/v1/chat/completions",
            headers={"authorization": f"Bearer {key}"},
            json={"model": "helper", "messages": ASK, "stream": True},
        ) as answer,
    ):
        next(answer.iter_lines())
        answer.close()
        deadline = time.monotonic() + 10
        while not site.left_early and time.monotonic() < deadline:
            time.sleep(0.02)
        assert site.left_early == 1
        rows: list[Any] = []
        while not rows and time.monotonic() < deadline:
            rows = books.database.read_now(lambda transaction: usage(transaction, by=("status",)))
            time.sleep(0.02)
    assert [row.group["status"] for row in rows] == ["cancelled"]


def test_policies_change_while_it_runs_and_bad_ones_do_not(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer, books: Books
) -> None:
    admin = {"authorization": f"Bearer {key_for(books, role='admin')}"}
    near, far = backend(site, "rack", "site", "secret"), backend(cloud, "far", "edge", "secret")
    path = tmp_path / "policies.toml"
    with hybrid(tmp_path, near, books=books) as server:

        def reload() -> httpx2.Response:
            return httpx2.post(f"{server.url}/admin/policies/reload", headers=admin, json={})

        def names() -> list[str]:
            listed = httpx2.get(f"{server.url}/admin/backends", headers=admin).json()
            return [one["name"] for one in listed["data"]]

        assert names() == ["rack"]
        path.write_text(near + "[labels]\ndefualt = 'public'\n")
        answer = reload()
        assert answer.status_code == 400
        assert "defualt" in answer.text
        assert names() == ["rack"]
        path.write_text(far)
        assert reload().json() == {"changed": True}
        assert names() == ["far"]


def test_why_a_request_went_where_it_went_can_be_asked(
    tmp_path: Path, site: UpstreamServer, cloud: UpstreamServer, books: Books
) -> None:
    admin, user = key_for(books, role="admin"), key_for(books)
    both = (backend(site, "rack", "site", "secret"), backend(cloud, "far", "cloud", "internal"))
    with hybrid(tmp_path, *both, books=books) as server:
        headers = {"authorization": f"Bearer {admin}"}
        with client_of(server, user) as client:
            client.chat.completions.create(
                model="helper",
                messages=MAIL,  # type: ignore[arg-type]
                extra_headers={"x-request-id": "why-1"},
            )
        url = f"{server.url}/admin/requests/why-1/route"
        told = httpx2.get(url, headers=headers)
        others = [
            httpx2.get(url, headers={"authorization": f"Bearer {user}"}).status_code,
            httpx2.get(url).status_code,
            httpx2.get(f"{server.url}/admin/requests/none/route", headers=headers).status_code,
        ]
    record = told.json()
    assert record["label"] == "private"
    assert record["found"] == ["email"]
    assert [one["backend"] for one in record["route"]["ranked"]] == ["rack"]
    assert [(one["backend"], one["rule"]) for one in record["route"]["ruled_out"]] == [
        ("far", "label")
    ]
    assert record["status"] == "answered"
    assert "lovelace" not in told.text
    assert others == [403, 401, 404]

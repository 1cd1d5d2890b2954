"""Nobody gets more than their budget covers by how they ask, or by when they leave."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostile import ROUTES, Attacked, asking, attacked, connected, placed, until
from tokenworks.accounts.limits import Allowance
from tokenworks.errors import ConfigError
from tokenworks.gateway.backend import Completion
from tokenworks.gateway.labelling import Labelled, Labeller
from tokenworks.gateway.policies import read_policies
from upstream_replies import Script
from upstream_server import UpstreamServer, upstream_server

PRICES = {"input": "1.00", "output": "2.00"}
LARGEST = 2**31 - 1


@pytest.fixture
def upstream() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


def cloud(upstream: UpstreamServer, **more: Any) -> str:
    return placed(upstream, "far", tier="cloud", **{"prices": PRICES, **more})


def with_budget(gateway: Attacked, money: int) -> str:
    gateway.budget("tenant:acme", money=money)
    return gateway.key()


LIMIT_NAME = {
    "/v1/chat/completions": "max_tokens",
    "/v1/completions": "max_tokens",
    "/v1/responses": "max_output_tokens",
    "/v1/messages": "max_tokens",
}


@pytest.mark.parametrize("route", ROUTES)
def test_a_huge_answer_is_reserved_for_before_anything_is_sent(
    tmp_path: Path, upstream: UpstreamServer, route: str
) -> None:
    with attacked(tmp_path, cloud(upstream)) as gateway:
        key = with_budget(gateway, 1_000_000)
        for most in (LARGEST, 600_000):
            refused = gateway.post(route, asking(route) | {LIMIT_NAME[route]: most}, key=key)
            assert refused.status == 429, (most, refused.text)
        assert upstream.asked == []
        assert gateway.post(route, asking(route) | {LIMIT_NAME[route]: 10}, key=key).status == 200
    assert len(upstream.asked) == 1


def test_what_a_throttled_key_sends_is_not_even_looked_through(
    tmp_path: Path, upstream: UpstreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    label = Labeller.label

    async def counted(self: Labeller, request: Completion, *rest: Any) -> Labelled:
        looked.append(request.request_id)
        return await label(self, request, *rest)

    monkeypatch.setattr(Labeller, "label", counted)
    with attacked(tmp_path, cloud(upstream)) as gateway:
        key = gateway.key(allowance=Allowance(requests_per_minute=2))
        statuses = [gateway.post(ROUTES[0], asking(ROUTES[0]), key=key).status for _ in range(5)]
    assert statuses == [200, 200, 429, 429, 429]
    assert len(looked) == 2


@pytest.mark.parametrize("route", ROUTES[:2])
def test_each_of_several_answers_is_reserved_for(
    tmp_path: Path, upstream: UpstreamServer, route: str
) -> None:
    with attacked(tmp_path, cloud(upstream)) as gateway:
        key = with_budget(gateway, 2_300)  # one answer of a thousand tokens, and its prompt
        several = asking(route, n=2, max_tokens=1000)
        assert gateway.post(route, several, key=key).status == 429
        assert upstream.asked == []
        assert gateway.post(route, several | {"n": 1}, key=key).status == 200


MORE: list[dict[str, Any]] = [
    *({"best_of": 5}, {"best_of": -1}, {"n": -1}, {"n": 0}, {"n": 1.5}, {"n": True}, {"n": 17}),
]


@pytest.mark.parametrize("route", ROUTES)
def test_other_ways_to_ask_for_more_are_refused(
    tmp_path: Path, upstream: UpstreamServer, route: str
) -> None:
    with attacked(tmp_path, cloud(upstream)) as gateway:
        for tries in MORE:
            for more in (tries, tries | {"max_tokens": -1}, {"max_completion_tokens": -5}):
                assert gateway.post(route, asking(route) | more).status == 400, more
    assert upstream.asked == []


def test_two_names_of_one_limit_are_no_way_around_it(
    tmp_path: Path, upstream: UpstreamServer
) -> None:
    with attacked(tmp_path, cloud(upstream)) as gateway:
        both = asking(ROUTES[0], max_tokens=1, max_completion_tokens=100_000)
        assert gateway.post(ROUTES[0], both).status == 400
        key = with_budget(gateway, 1000)
        huge = asking(ROUTES[0], max_completion_tokens=100_000)
        assert gateway.post(ROUTES[0], huge, key=key).status == 429
    assert upstream.asked == []


@pytest.mark.parametrize(
    "prices",
    [
        {"input": "-1.00", "output": "2.00"},
        {"input": "1.00", "output": "-0.000001"},
        {"input": "1", "output": "1", "cached_input": "-1"},
        {"input": "NaN", "output": "1"},
        {"input": "Infinity", "output": "1"},
        {"input": "1e400", "output": "1"},
        {"input": "1"},
    ],
)
def test_prices_that_would_fill_a_budget_are_refused(
    upstream: UpstreamServer, prices: dict[str, str]
) -> None:
    with pytest.raises(ConfigError):
        read_policies(cloud(upstream, prices=prices), "a test")


def test_the_largest_request_at_the_largest_price_is_refused_and_no_error_of_ours(
    tmp_path: Path, upstream: UpstreamServer
) -> None:
    dear = cloud(upstream, prices={"input": "1000000", "output": "1000000"})
    with attacked(tmp_path, dear) as gateway:
        key = with_budget(gateway, 1_000_000)
        reply = gateway.post(
            ROUTES[0], asking(ROUTES[0], n=16, max_tokens=LARGEST, stream=True), key=key
        )
    assert reply.status == 429
    assert upstream.asked == []


def left_after(gateway: Attacked, route: str, key: str, seen: bytes, count: int) -> None:
    """Begin a stream, and leave once `seen` has come so often."""
    body = json.dumps(asking(route, stream=True) | {LIMIT_NAME[route]: 2000}).encode()
    head = (
        f"POST {route} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with connected(gateway.url) as connection:
        connection.sendall(head.encode() + body)
        said = b""
        while said.count(seen) < count:
            said += connection.recv(65536)


@pytest.mark.parametrize("route", ROUTES)
def test_who_leaves_in_mid_answer_pays_for_what_has_come(
    tmp_path: Path, upstream: UpstreamServer, route: str
) -> None:
    upstream.script = Script(pieces=("piece ",) * 1000, delay_s=0.005)
    with attacked(tmp_path, cloud(upstream)) as gateway:
        key = with_budget(gateway, 10_000_000)
        left_after(gateway, route, key, b"piece", 20)
        until(lambda: gateway.ledger())
        (row,) = gateway.ledger()

    assert row["status"] == "cancelled"
    assert row["completion_tokens"] >= 20
    assert row["prompt_tokens"] >= 3
    assert row["money"] >= row["prompt_tokens"] + 2 * 20


def test_who_leaves_pays_for_all_text_however_few_events_it_came_in(
    tmp_path: Path, upstream: UpstreamServer
) -> None:
    """Some backends send a hundred tokens at once; their count only comes at the very end."""
    upstream.script = Script(pieces=("several words in one piece " * 20,) * 200, delay_s=0.02)
    with attacked(tmp_path, cloud(upstream)) as gateway:
        key = with_budget(gateway, 10_000_000)
        left_after(gateway, ROUTES[0], key, b"several words", 100)
        until(lambda: gateway.ledger())
        (row,) = gateway.ledger()

    assert row["completion_tokens"] >= 300  # 2,700 characters at least


@pytest.mark.parametrize("route", ROUTES)
def test_who_leaves_at_once_pays_for_the_prompt_that_was_read(
    tmp_path: Path, upstream: UpstreamServer, route: str
) -> None:
    upstream.script = Script(fault="stall", at=1)
    prompt = "A long prompt that a cloud has read. " * 50
    with attacked(tmp_path, cloud(upstream)) as gateway:
        key = with_budget(gateway, 10_000_000)
        body = json.dumps(asking(route, prompt, stream=True)).encode()
        head = (
            f"POST {route} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with connected(gateway.url) as connection:
            connection.sendall(head.encode() + body)
            until(lambda: upstream.asked)
        until(lambda: gateway.ledger())
        (row,) = gateway.ledger()

    assert row["status"] == "cancelled"
    assert row["money"] >= len(prompt) // 8


@pytest.mark.parametrize("route", ROUTES)
def test_an_error_after_tokens_costs_the_tokens(
    tmp_path: Path, upstream: UpstreamServer, route: str
) -> None:
    upstream.script = Script(pieces=("piece ",) * 100, fault="close", at=80)
    with attacked(tmp_path, cloud(upstream)) as gateway:
        key = with_budget(gateway, 10_000_000)
        gateway.post(route, asking(route, stream=True) | {LIMIT_NAME[route]: 200}, key=key)
        until(lambda: gateway.ledger())
        (row,) = gateway.ledger()

    assert row["status"] == "failed"
    assert 70 <= row["completion_tokens"] <= 80
    assert row["money"] >= 140


def test_a_request_id_that_is_used_again_gets_nothing_for_nothing(
    tmp_path: Path, upstream: UpstreamServer
) -> None:
    with attacked(tmp_path, cloud(upstream)) as gateway:
        key, other = with_budget(gateway, 10_000_000), gateway.key("other")
        for whose in (key, key, other):
            for route in ROUTES:
                reply = gateway.post(route, asking(route), ("x-request-id", "same"), key=whose)
                assert reply.status == 200
        rows = gateway.ledger()

    assert len(rows) == len({row["id"] for row in rows}) == 12
    assert sum(row["tenant"] == "acme" for row in rows) == 8
    assert all(row["money"] > 0 for row in rows)

"""kill -9 amid many streams: the books know each request once, and nobody overspends."""

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import httpx2

from gateway_process import GatewayProcess, gateway_process
from hostile import MODEL, placed, rows_of, until
from tokenworks.accounts.budget_rows import Budget
from upstream_replies import Script
from upstream_server import UpstreamServer, upstream_server

ROUNDS = 20 if os.environ.get("TOKENWORKS_SOAK") == "1" else 2
STREAMS = 60
PIECES = 20
BUDGET = 25_000 * ROUNDS
"""Micro-dollars: about half of what all streams together reserve."""

PRICES = {"input": "10.00", "output": "20.00"}


async def one(client: httpx2.AsyncClient, number: str, outcomes: dict[str, str]) -> None:
    """A streamed request; `outcomes` says what its client saw of it."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 2 * PIECES,
        "stream": True,
    }
    outcomes[number] = "nothing"
    try:
        async with client.stream(
            "POST", "/v1/chat/completions", json=body, headers={"x-request-id": number}
        ) as reply:
            if reply.status_code != 200:
                outcomes[number] = f"refused {reply.status_code}"
                return
            outcomes[number] = "begun"
            async for line in reply.aiter_lines():
                if line == "data: [DONE]":
                    outcomes[number] = "answered"
    except httpx2.TransportError:
        pass


async def storm(
    gateway: GatewayProcess, key: str, part: int, kill_after_s: float
) -> dict[str, str]:
    """Many streams at once, with a gateway that is killed among them."""
    outcomes: dict[str, str] = {}
    headers = {"authorization": f"Bearer {key}"}
    limits = httpx2.Limits(max_connections=STREAMS)
    async with httpx2.AsyncClient(
        base_url=gateway.url, headers=headers, timeout=20, limits=limits
    ) as client:

        async def later(number: int) -> None:
            await asyncio.sleep(number * 0.01)
            await one(client, f"r{part}-{number}", outcomes)

        streams = [asyncio.create_task(later(number)) for number in range(STREAMS)]
        await asyncio.sleep(kill_after_s)
        await asyncio.to_thread(gateway.kill)
        await asyncio.gather(*streams)
    return outcomes


def prepared(gateway: GatewayProcess) -> str:
    key = gateway.key()
    with gateway.books() as books:
        budget = Budget(holder="tenant:acme", period="total", money=BUDGET)
        asyncio.run(books.budgets.set(budget, actor="t"))
    return key


def settled(gateway: GatewayProcess) -> list[dict[str, Any]]:
    """The ledger, once whoever runs has booked what a dead gateway left open."""
    with gateway.books() as books:
        until(lambda: all(row["lost"] for row in rows_of(books, "reservations")), within_s=20)
        return rows_of(books, "requests")


def test_kill_9_of_the_gateway_loses_no_answered_request_and_overspends_nothing(
    tmp_path: Path,
) -> None:
    dice = random.Random(6)
    with upstream_server(script=Script(pieces=("word ",) * PIECES, delay_s=0.01)) as upstream:
        policies = placed(upstream, tier="cloud", clearance="secret", prices=PRICES)
        with gateway_process(tmp_path, policies) as gateway:
            key = prepared(gateway)
            outcomes: dict[str, str] = {}
            for part in range(ROUNDS):
                gateway.start()
                outcomes |= asyncio.run(storm(gateway, key, part, 0.3 + dice.random() * 0.4))
            gateway.start()
            ledger = settled(gateway)
            with gateway.client(key) as client:
                after = client.get("/v1/models")
            _check(upstream, gateway, outcomes, ledger)

    assert after.status_code == 200


def _check(
    upstream: UpstreamServer,
    gateway: GatewayProcess,
    outcomes: dict[str, str],
    ledger: list[dict[str, Any]],
) -> None:
    answered = {number for number, what in outcomes.items() if what == "answered"}
    refused = {number for number, what in outcomes.items() if what.startswith("refused")}
    status = {row["id"]: row["status"] for row in ledger}
    # It was a storm in which gateways died with answers on their way.
    assert len(answered) > ROUNDS
    assert len(refused) > ROUNDS
    assert sum(what in ("begun", "nothing") for what in outcomes.values()) > ROUNDS

    assert len(status) == len(ledger)
    assert {number for number in answered if status.get(number) != "answered"} == set()
    assert not refused & set(status)
    # Whatever a backend was asked for is booked: as answered, or in full as lost.
    told = {one.headers["x-request-id"] for one in upstream.asked if one.method == "POST"}
    assert told <= set(status)
    spent = sum(row["money"] for row in ledger)
    with gateway.books() as books:
        (state,) = asyncio.run(books.budgets.all())
        entries = rows_of(books, "entries")
    assert (state.spent, state.reserved, state.reserved_tokens) == (spent, 0, 0)
    assert 0 < spent <= BUDGET
    assert sum(row["money"] for row in entries) == 0

"""Streams whose backend dies in mid-answer: does the client get the answer all the same, and right?

    python gateway_midstream.py [--kills N] [--seed N] [--no-failover]

Real servers behind proxies that reset connections at random places, or after the server was killed
by SIGKILL. Three kinds of second backend: another engine of the same model (two of our own servers;
the text must be that of an undisturbed answer), one that can go on with an assistant message (the
text must be whole, nothing twice), and any other (a clean error that is marked, or a marked new
beginning, as the policy says). With `--no-failover` there is one attempt for each answer: that
shows that answers which break off are seen.
"""

import argparse
import asyncio
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
from continuing_backend import STYLES, passage
from cutting_proxy import Order
from gateway_answers import Answer, answer_of
from harness import note
from midstream_servers import Setup, engine, scripted, setup, write_model

SHARES: Final = {"same_engine": 0.4, "continuable": 0.3, "other": 0.3}
KILLED: Final = {"same_engine": 0.1, "continuable": 0.25, "other": 0.25}
"""Share of the streams whose server is killed; other connections are reset."""

SPARED: Final = 2
"""Answers that are left alone before each that is not: a backend that only ever fails is not asked
any more, and nothing could be broken off there."""

TOKENS: Final = 120
FAILOVER: Final = '[failover]\nattempts = {attempts}\nwhen_broken = "{broken}"\n'
BACKEND: Final = """
[[backends]]
name = "{name}"
url = "http://127.0.0.1:{{port_{name}}}/v1"
tier = "{tier}"
clearance = "secret"
models = {{{{ {model} = "{model}" }}}}
abilities = ["extended"]
{more}
"""
PATHS: Final = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
}
MARKS_RESTARTS: Final = ("chat", "completions")
"""APIs that can say in a stream that an answer begins again; the others end in an error."""


@dataclass
class Rates:
    kills: int = 0
    right: int = 0
    by_sigkill: int = 0
    missed: int = 0  # orders that came too late: the answer was over
    wrong: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, right: bool, what: str, about: str) -> None:
        self.kills += 1
        self.right += right
        self.outcomes[what] += 1
        if not right:
            self.wrong.append(about)

    def record(self) -> dict[str, Any]:
        return {
            "rate": self.right / self.kills if self.kills else 0.0,
            "streams": self.kills,
            "by_sigkill": self.by_sigkill,
            "by_reset": self.kills - self.by_sigkill,
            "not_broken_off_in_time": self.missed,
            "outcomes": dict(self.outcomes),
            "wrong": self.wrong[:10],
        }


@dataclass(frozen=True)
class Asking:
    """One question in an API, and how many events an undisturbed answer has at least."""

    api: str
    body: dict[str, Any]
    events: int


def midstream_failover(
    kills: int = 500, seed: int = 6, *, attempts: int = 3, only: str = ""
) -> dict[str, dict[str, Any]]:
    """What became of the streams that were broken off, by what the second backend can do."""
    return asyncio.run(_all(kills, seed, attempts, only))


async def _all(kills: int, seed: int, attempts: int, only: str) -> dict[str, dict[str, Any]]:
    measures = {"same_engine": _same_engine, "continuable": _continuable, "other": _other}
    found = {}
    for name in [only] if only else measures:
        measure = measures[name]
        with tempfile.TemporaryDirectory() as folder:
            rates, dice = Rates(), random.Random(f"{name} {seed}")
            await measure(Path(folder), max(2, round(kills * SHARES[name])), dice, rates, attempts)
        found[name] = rates.record()
        note(f"{name}: {rates.right} of {rates.kills}")
    return found


async def _same_engine(
    folder: Path, kills: int, dice: random.Random, rates: Rates, attempts: int
) -> None:
    model = write_model(folder / "tiny.gguf")
    commands = {name: engine(model) for name in ("one", "two")}
    policies = FAILOVER.format(attempts=attempts, broken="error")
    for name in commands:
        more = 'engine = "tiny"'
        policies += BACKEND.format(name=name, tier="site", model="tiny", more=more)
    async with setup(folder, commands, policies) as at, _client(at) as client:
        while rates.kills < kills:
            asking = _generating(dice)
            whole = await _ask(client, asking, f"whole-{dice.random()}")
            events = len(whole.events)
            answer, order = await _broken_off(
                client, at, asking, events, dice, rates, "same_engine"
            )
            if order is not None:
                same = answer.complete and answer.text == whole.text
                _note(rates, order, same, "the same" if same else "another", asking, answer)


def _generating(dice: random.Random) -> Asking:
    words = " ".join(dice.choices(("canal", "lake", "who", "dug", "and", "why"), k=6))
    said = {"model": "tiny", "stream": True, "max_tokens": TOKENS, "seed": dice.getrandbits(40)}
    said["temperature"] = dice.choice((0.0, 0.7, 1.0))
    if dice.random() < 0.3:
        return Asking("completions", {**said, "prompt": words}, TOKENS // 2)
    return Asking("chat", {**said, "messages": [{"role": "user", "content": words}]}, TOKENS // 2)


async def _continuable(
    folder: Path, kills: int, dice: random.Random, rates: Rates, attempts: int
) -> None:
    for style, share in zip(STYLES, (0.5, 0.25, 0.25), strict=True):
        right = partial(_whole, style)
        commands = {"one": scripted(), "two": scripted("--style", style)}
        policies = FAILOVER.format(attempts=attempts, broken="error")
        how = 'continues = "continue_final_message"'
        for name, tier in (("one", "edge"), ("two", "site")):
            more = how if name == "two" else ""
            policies += BACKEND.format(name=name, tier=tier, model="m", more=more)

        place = folder / style
        place.mkdir()
        target = rates.kills + max(1, round(kills * share))
        async with setup(place, commands, policies) as at, _client(at) as client:
            while rates.kills < target:
                await _passage(client, at, dice, rates, "continuable", right, ("chat",))


async def _other(
    folder: Path, kills: int, dice: random.Random, rates: Rates, attempts: int
) -> None:
    for broken in ("error", "restart"):
        right = partial(_clean, broken)
        commands = {name: scripted("--name", name) for name in ("one", "two")}
        policies = FAILOVER.format(attempts=attempts, broken=broken)
        for name, tier in (("one", "edge"), ("two", "site")):
            policies += BACKEND.format(name=name, tier=tier, model="m", more="")

        place = folder / broken
        place.mkdir()
        target = rates.kills + max(1, kills // 2)
        async with setup(place, commands, policies) as at, _client(at) as client:
            while rates.kills < target:
                await _passage(client, at, dice, rates, "other", right, tuple(PATHS))


def _whole(style: str, answer: Answer, number: int, api: str) -> tuple[bool, str]:
    whole = answer.complete and answer.text == passage(number)
    return whole, f"{style}: {'whole' if whole else 'not whole'}"


def _clean(broken: str, answer: Answer, number: int, api: str) -> tuple[bool, str]:
    """Whether it began again and said so, where policy and API let it; else ended in an error that
    says so after a part of the answer."""
    texts = [f"{name}: {passage(number)}" for name in ("one", "two")]
    if answer.error and not answer.closed:
        begun = any(text.startswith(answer.text) and text != answer.text for text in texts)
        may = broken == "error" or api not in MARKS_RESTARTS
        return begun and may and not answer.restarts, f"{broken}: an error"
    again = answer.complete and answer.restarts == 1 and answer.text in texts
    may = broken == "restart" and api in MARKS_RESTARTS
    return again and may, f"{broken}: {'restarted' if again else 'something else'}"


async def _passage(
    client: httpx2.AsyncClient,
    at: Setup,
    dice: random.Random,
    rates: Rates,
    kind: str,
    right: Callable[[Answer, int, str], tuple[bool, str]],
    apis: tuple[str, ...],
) -> None:
    number, api = dice.randrange(10**6), dice.choice(apis)
    asking = Asking(api, _passage_body(api, number), len(passage(number)) // 9)
    answer, order = await _broken_off(client, at, asking, asking.events, dice, rates, kind)
    if order is not None:
        good, what = right(answer, number, api)
        _note(rates, order, good, what, asking, answer)


def _passage_body(api: str, number: int) -> dict[str, Any]:
    asked = {"model": "m", "stream": True}
    if api == "responses":
        return {**asked, "input": str(number)}
    if api == "completions":
        return {**asked, "prompt": f"{number}\n", "max_tokens": 4000}
    limit = {"max_tokens": 4000} if api == "messages" else {}
    return {**asked, **limit, "messages": [{"role": "user", "content": str(number)}]}


async def _broken_off(
    client: httpx2.AsyncClient,
    at: Setup,
    asking: Asking,
    events: int,
    dice: random.Random,
    rates: Rates,
    kind: str,
) -> tuple[Answer, Order | None]:
    """The answer, and how it was broken off; None if it was not."""
    for _ in range(SPARED):
        await _ask(client, asking, f"spared-{dice.random()}")
    name = f"broken-{dice.random()}"
    kill = dice.random() < KILLED[kind]
    order = Order(dice.randint(3, max(4, events - 2)), dice.randrange(200), kill)
    at.orders.by_id[name] = order
    answer = await _ask(client, asking, name)
    del at.orders.by_id[name]
    await at.ready()
    if not order.done_by:
        rates.missed += 1
        return answer, None
    rates.by_sigkill += kill
    return answer, order


def _note(
    rates: Rates, order: Order, right: bool, what: str, asking: Asking, answer: Answer
) -> None:
    how = "killed" if order.kill else "reset"
    about = f"{asking.api}, {how} at {order.done_by} after {order.events} events: {what};"
    rates.add(
        right, what, f"{about} {json.dumps(asking.body)[:300]}: {answer.error} {answer.text!r}"
    )


def _client(at: Setup) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=at.address, timeout=60)


async def _ask(client: httpx2.AsyncClient, asking: Asking, identity: str) -> Answer:
    headers = {"x-request-id": identity}
    reply = await client.post(PATHS[asking.api], json=asking.body, headers=headers)
    return answer_of(reply.status_code, True, reply.content, keep=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--only", default="", choices=("", *SHARES))
    parser.add_argument("--no-failover", action="store_true")
    options = parser.parse_args()
    attempts = 1 if options.no_failover else 3
    figures = midstream_failover(options.kills, options.seed, attempts=attempts, only=options.only)
    print(json.dumps(figures, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()

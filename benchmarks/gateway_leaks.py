"""Private text that reached somebody who may not see it, over generated conversations.

    python gateway_leaks.py [--conversations N] [--seed N] [--allow-everything] [--detect-nothing]

A real gateway before real backends that write down all they are told: two that may see private
things, three in a cloud that may not, one of those speaking Anthropic's dialect and one cleared for
public data alone. Conversations come over all four APIs, with labels from keys, headers and
detectors; backends fail before and in their answers; policies differ from block to block. Every
private item is one of its kind. It must not be in what a backend without clearance received, nor in
the gateway's log, database, metrics and administration. With `--allow-everything` or
`--detect-nothing` there must be leaks: that shows that the search finds them.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
from gateway_answers import Answer, answer_of
from gateway_bodies import body_of
from gateway_conversations import PATHS, Conversation, conversations
from gateway_leak_search import CLEARANCES, Found, check
from gateway_overhead import HERE, PROGRAM, line_of, running, told
from harness import note
from recording_backend import BEGIN, OTHER_GOING_ON

from tokenworks.gateway.labels import LABELS as ALL_LABELS
from tokenworks.gateway.privacy.masking import MASKED_KINDS
from tokenworks.gateway.privacy.placeholders import PLACEHOLDER

AT_ONCE: Final = 8
TIERS: Final = {"near": "edge", "site": "site"}
MASKED: Final = '["phone", "card", "cn_resident_id", "email", "password"]'
ALL_MASKED: Final = json.dumps(MASKED_KINDS)
SAMPLES: Final = 30


@dataclass(frozen=True)
class Block:
    """Conversations under one file of policies."""

    name: str
    mask: str = MASKED
    default: str = "internal"
    objective: str = "near"
    when_broken: str = "error"
    hedge_after_s: float = 0.0


BLOCKS: Final = (
    Block("cheapest first", mask=ALL_MASKED, objective="cost", when_broken="restart"),
    Block("near first"),
    Block("hedged", hedge_after_s=0.02),
    Block("nothing is masked", mask="[]", when_broken="restart"),
    Block("public unless labelled", default="public", objective="cost"),
)


def label_leaks(
    count: int = 2000,
    seed: int = 6,
    *,
    allow: bool = False,
    detect: bool = True,
    blocks: Sequence[Block] = BLOCKS,
) -> dict[str, Any]:
    """`label_leaks` and what happened; `allow`: every backend may see everything."""
    found = Found()
    for number, block in enumerate(blocks):
        each = count // len(blocks) + (number < count % len(blocks))
        _run_block(block, each, seed + number, found, allow=allow, detect=detect)
        note(f"{block.name}: {len(found.leaks)} leaks so far; {dict(found.received)}")
    leaks = Counter(f"{one['place']} → {one['seen_by']}" for one in found.leaks)
    return {
        "label_leaks": len(found.leaks),
        "conversations": count,
        "leaks": dict(leaks.most_common()),
        "samples": sorted(found.leaks, key=lambda x: x["seen_by"] not in CLEARANCES)[:SAMPLES],
        "outcomes": dict(found.outcomes),
        "answers_with_originals": dict(found.restored),
        "wrong_answers": found.wrong[:SAMPLES],
        "received": dict(found.received),
    }


def _run_block(
    block: Block, count: int, seed: int, found: Found, *, allow: bool, detect: bool
) -> None:
    default = ALL_LABELS[block.default]
    made = conversations(count, seed, default)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        backends = _backends(stack, folder, seed, late=0.3 if block.hedge_after_s else 0.0)
        policies = folder / "policies.toml"
        policies.write_text(_policies(block, backends, allow=allow, detect=detect))
        keys = {
            label: told(_variables(folder), "keys", "create", "--tenant", "acme", *more)
            for label, more in _KEYS.items()
        }
        with _gateway(folder, policies) as address:
            answers = asyncio.run(_ask_all(address, keys, made))
            pages = asyncio.run(_pages(address, keys["admin"]))
        for conversation, given in zip(made, answers, strict=True):
            for answer in given:
                _count(conversation, answer, found)
        check(block.name, folder, made, keys.values(), pages, found)


_KEYS: Final = {
    "": (),
    "private": ("--label", "private"),
    "secret": ("--label", "secret"),
    "admin": ("--role", "admin"),
}


def _variables(folder: Path) -> dict[str, str]:
    return {"TOKENWORKS_HOME": str(folder / "home"), "NO_COLOR": "1"}


def _backends(stack: ExitStack, folder: Path, seed: int, late: float) -> dict[str, str]:
    """Each one's address."""
    found = {}
    for number, name in enumerate(CLEARANCES):
        options = ["--record", folder / f"{name}.record", "--seed", str(100 * seed + number)]
        options += ["--faults", "0.25" if name in TIERS else "0.1", "--late", str(late)]
        options += ["--contacts"] if name in TIERS else []
        command = [sys.executable, HERE / "recording_backend.py", *options]
        log = stack.enter_context((folder / f"{name}.log").open("w"))
        found[name] = line_of(stack.enter_context(running(command, {}, log)))
    return found


def _policies(block: Block, backends: dict[str, str], *, allow: bool, detect: bool) -> str:
    text = f"""
[labels]
default = "{block.default}"
detect = {str(detect).lower()}
mask = {block.mask}

[routing]
objective = "{block.objective}"

[failover]
when_broken = "{block.when_broken}"
hedge_after_s = {block.hedge_after_s}
"""
    for name, address in backends.items():
        claude = name == "claude"
        text += f"""
[[backends]]
name = "{name}"
url = "{address}{"" if claude else "/v1"}"
dialect = "{"anthropic" if claude else "openai"}"
tier = "{TIERS.get(name, "cloud")}"
clearance = "{"secret" if allow else CLEARANCES[name].word}"
models = {{ helper = "their-model" }}
abilities = ["tools", "schema", "vision", "extended"]
continues = "{"prefill" if claude else "continue_final_message"}"
prices = {{ input = "{9 if name in TIERS else 1}", output = "1" }}
allow_private = true
"""
    return text


@contextmanager
def _gateway(folder: Path, policies: Path) -> Iterator[str]:
    up = ("up", "--model", "none", "--policies", str(policies), "--port", "0")
    with (
        (folder / "gateway.log").open("w") as log,
        running([*PROGRAM, *up], _variables(folder), log) as process,
    ):
        yield line_of(process).rsplit(" ", 1)[-1]


async def _ask_all(
    address: str, keys: dict[str, str], made: Sequence[Conversation]
) -> list[list[Answer]]:
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx2.AsyncClient(base_url=address, timeout=60) as client:

        async def talk(one: Conversation) -> list[Answer]:
            async with gate:
                return [await _ask(client, keys, one, turn) for turn in range(len(one.turns))]

        return await asyncio.gather(*(talk(one) for one in made))


async def _ask(
    client: httpx2.AsyncClient, keys: dict[str, str], one: Conversation, turn: int
) -> Answer:
    headers = [("authorization", f"Bearer {keys[one.key]}"), *one.headers()]
    reply = await client.post(PATHS[one.api], headers=headers, json=body_of(one, turn))
    answer = answer_of(reply.status_code, one.stream, reply.content)
    one.answers.append(answer.text)
    one.previous = answer.identity or one.previous
    return answer


async def _pages(address: str, admin: str) -> bytes:
    """All that the gateway tells of itself."""
    headers = {"authorization": f"Bearer {admin}"}
    async with httpx2.AsyncClient(base_url=address, timeout=60, headers=headers) as client:
        pages = [
            await client.get(path)
            for path in ("/metrics", "/health", "/admin/backends", "/admin/usage")
        ]
        listed = await client.get("/admin/requests", params={"limit": 1000})
        pages.append(listed)
        for record in listed.json()["data"]:
            pages.append(await client.get(f"/admin/requests/{record['request_id']}/route"))
    assert all(page.status_code == 200 for page in pages), [page.status_code for page in pages]
    return b"\n".join(page.content for page in pages)


def _count(one: Conversation, answer: Answer, found: Found) -> None:
    """What became of a question; and whether an answer says again just what was asked."""
    done = "answered" if answer.complete else answer.error or "broken off"
    found.outcomes[done] += 1
    if not answer.complete:
        return
    said = answer.text.removeprefix(BEGIN)
    if answer.arguments:
        said = json.loads(answer.arguments)["text"]
    elif one.at("format"):  # it was to be JSON, so that originals are put back as JSON has them
        said = said.replace("\\n", "\n")
    if said.endswith(OTHER_GOING_ON):
        found.restored["gone on with by one that saw the question otherwise"] += 1
        return
    right = any(turn in said for turn in one.turns) and not _strange(said, one)
    found.restored["right" if right else "wrong"] += 1
    if not right:
        found.wrong.append(f"{one.api}: {one.turns!r} was answered with {answer.text!r}"[:600])


def _strange(said: str, one: Conversation) -> bool:
    """Whether there are placeholders in it that were not in the question."""
    return bool(PLACEHOLDER.search(said)) and not any(map(PLACEHOLDER.search, one.turns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=6)
    about = "only so many of the files of policies"
    parser.add_argument("--blocks", type=int, default=len(BLOCKS), help=about)
    parser.add_argument("--allow-everything", action="store_true")
    parser.add_argument("--detect-nothing", action="store_true")
    options = parser.parse_args()
    figures = label_leaks(
        options.conversations,
        options.seed,
        allow=options.allow_everything,
        detect=not options.detect_nothing,
        blocks=BLOCKS[: options.blocks],
    )
    print(json.dumps(figures, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()

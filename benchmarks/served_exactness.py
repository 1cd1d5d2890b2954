"""Whether an answer depends on what a server saved: greedy answers of a busy server, with all it
reuses, against those of servers that have just been started, guess nothing and do nothing else."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness import Trial, note
from http_load import Served, ask
from servers import running
from serving_parts import Findings, Setup
from workloads import ALL, CLIENTS

OF_EACH = 2
TOKENS = 96
ROUND = 9
Body = dict[str, Any]


def measure(setup: Setup, found: Findings) -> None:
    bodies = questions(setup)
    with running(setup.ours) as served:
        # Twice: the second time, all that can be reused is there.
        busy = [together(served, bodies), together(served, bodies)]
    alone = []
    for body in bodies:
        with running(setup.ours_without_speculation) as served:
            alone.append(ask(served, body).text)
    failures = sum(
        text != expected for texts in busy for text, expected in zip(texts, alone, strict=True)
    )
    found.keys["exactness_failures"] = failures
    found.details["exactness"] = {"answers": 2 * len(bodies), "failures": failures}
    note(f"{failures} of {2 * len(bodies)} greedy answers differ from those of a fresh server")


def questions(setup: Setup) -> list[Body]:
    """Some of every workload; of those with turns, the second one too, with a made-up answer."""
    talks = [
        talk
        for workload in ALL
        for talk in workload.conversations(setup.texts, ROUND)[: 1 if Trial.running else OF_EACH]
    ]
    bodies = []
    for talk in talks:
        messages = [{"role": "system", "content": talk.system}] if talk.system else []
        for turn in talk.turns[:2]:
            messages = [*messages, {"role": "user", "content": turn}]
            most = 8 if Trial.running else TOKENS
            bodies.append({"messages": messages, "max_tokens": most, "temperature": 0.0})
            messages = [*messages, {"role": "assistant", "content": "Let me see."}]
    return bodies[:3] if Trial.running else bodies


def together(served: Served, bodies: Sequence[Body]) -> list[str]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        return [answer.text for answer in pool.map(lambda body: ask(served, body), bodies)]

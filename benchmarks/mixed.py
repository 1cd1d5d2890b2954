"""What long prompts do to the people who chat: waiting for the first token, and between tokens.

Chat requests arrive at random moments (the same for every server), each with a short question; in
regular intervals somebody sends a prompt of 4,000 tokens that nobody has sent before. Only the chat
requests are looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from harness import Trial, note, wait_until_idle
from http_load import SAMPLING, TEMPERATURE, Answer, Served, at_times
from rich.table import Table
from servers import Server, running
from serving_parts import Findings, Setup
from serving_texts import taken

SECONDS = 45.0
CHATS_PER_S = 1.0
CHAT_TOKENS = 48
LONG_TOKENS = 4000
LONG_EVERY_S = 15.0
"""llama-server reads for about 10 of them: more often, and it would only fall behind."""
LONG_ANSWER = 16
MOST_ROUNDS = 3
LLAMACPP_WAYS = ("as it comes", "small batches")
Body = dict[str, Any]


@dataclass
class Waits:
    """Seconds that chat requests waited: for the first text, and between two."""

    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def add(self, answers: Sequence[Answer]) -> None:
        self.first += [answer.first_s for answer in answers]
        self.gaps += [gap for answer in answers for gap in answer.gaps_s]

    @property
    def p99(self) -> tuple[float, float]:
        return percentile(self.first, 99), percentile(self.gaps, 99)

    def record(self) -> dict[str, float]:
        shares = {"p50": 50, "p90": 90, "p99": 99}
        return {
            f"{name}_{share}_s": percentile(values, percent)
            for name, values in (("first", self.first), ("gap", self.gaps))
            for share, percent in shares.items()
        }


def percentile(seconds: Sequence[float], percent: int) -> float:
    """0 if nobody waited: an answer that came all at once has no gaps."""
    return float(np.percentile(seconds, percent)) if seconds else 0.0


def measure(setup: Setup, found: Findings) -> None:
    peer = best_peer(setup)
    ours, theirs = Waits(), Waits()
    servers = [(setup.ours, ours), *([(peer, theirs)] if peer else [])]
    for number in range(1, min(setup.rounds, MOST_ROUNDS) + 1):
        for server, waits in servers:
            with running(server) as served:
                waits.add(chats(setup, served, number))
    named = {"ours": ours, **({peer.name: theirs} if peer else {})}
    found.details["mixed_load"] = {name: waits.record() for name, waits in named.items()}
    found.details["mixed_load_requests"] = {name: len(w.first) for name, w in named.items()}
    if peer:
        ratios = [a / b for a, b in zip(ours.p99, theirs.p99, strict=True)]
        for name, ratio in zip(("ttft", "itl"), ratios, strict=True):
            found.keys[f"mixed_load_{name}_p99_ratio"] = round(ratio, 3)
    found.tables.append(table_of(named))


def best_peer(setup: Setup) -> Server | None:
    """llama-server, the way in which both waits together are shortest; None without peers."""
    products = []
    for server in setup.llamacpp(*LLAMACPP_WAYS):
        waits = Waits()
        with running(server) as served:
            waits.add(chats(setup, served, 0))
        first, gap = waits.p99
        note(f"{server.name}, long prompts arrive: p99 {first:.2f} s to the first, {gap:.3f} s gap")
        products.append((first * gap, server))
    return min(products, key=lambda pair: pair[0])[1] if products else None


def chats(setup: Setup, served: Served, round: int) -> list[Answer]:
    """The chat requests of a round, answered while long prompts arrive."""
    at_times(served, [(0.0, asked("Say hello.", 8, seed=1))])  # warm-up
    wait_until_idle()
    seconds = 2.0 if Trial.running else SECONDS
    random = np.random.default_rng(round)
    moments = np.cumsum(random.exponential(1 / CHATS_PER_S, int(2 * seconds * CHATS_PER_S)))
    moments = [0.1, *moments[moments < seconds]]
    dialogues = taken(setup.texts.dialogues, round * len(moments), len(moments))
    planned = [
        (float(at), asked(f"({round}-{place}) {talk[0]}", CHAT_TOKENS, seed=place))
        for place, (at, talk) in enumerate(zip(moments, dialogues, strict=True))
    ]
    longs = [
        (at, asked(long_text(setup, 100 * round + place), LONG_ANSWER, seed=place))
        for place, at in enumerate(np.arange(0.5, seconds, LONG_EVERY_S))
    ]
    return at_times(served, [*planned, *longs])[: len(planned)]


def asked(text: str, most_tokens: int, seed: int) -> Body:
    return {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": most_tokens,
        "temperature": TEMPERATURE,
        "seed": seed,
        **SAMPLING,
    }


def long_text(setup: Setup, number: int) -> str:
    """About LONG_TOKENS tokens (half the context, if that is less) that begin like no other."""
    limit = min(LONG_TOKENS, setup.context_length // 2)
    problems = setup.texts.problems
    words = f"Collection {number}. Which of these is the hardest?\n"
    for question, answer in taken(problems, 29 * number, len(problems)):
        words += f"{question} {answer}\n"
        if len(words) > 8 * limit:
            break
    codec = setup.codec
    tokens = codec.encode(words)
    return words[: len(words) * limit // max(limit, len(tokens))]


def table_of(named: dict[str, Waits]) -> Table:
    table = Table(
        "chat requests beside long prompts", "requests", "first p50", "first p99", "gap p99"
    )
    for name, waits in named.items():
        said = waits.record()
        times = [f"{1e3 * said[key]:.0f} ms" for key in ("first_p50_s", "first_p99_s", "gap_p99_s")]
        table.add_row(name, str(len(waits.first)), *times)
    return table

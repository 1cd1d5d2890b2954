"""Output tokens a second of each workload: ours against the best of the peers' ways to serve it.

Every peer serves half of round 0 in each of its ways; the best one is then measured in turn with
us, round by round, each round with texts of its own.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from harness import Trial, in_turn, note, summary, wait_until_idle
from http_load import TEMPERATURE, Answer, Conversation, Run, Served, converse
from rich.table import Table
from servers import Server, running
from serving_parts import Findings, Setup
from workloads import ALL, CLIENTS, Workload

LLAMACPP_WAYS = (
    *("as it comes", "KV apart", "ngram-simple", "ngram-map-k", "ngram-mod"),
    "ngram-mod, its defaults",
)
MOST_REPEATED = 0.15
"""Where our outputs repeat themselves more than this, a figure does not count, unless the task is
to copy."""
CAPITAL = Conversation(("What is the capital of France?",), most_tokens=24)
SHARED = ("served_shared_prefix_simultaneous_ratio", "served_shared_prefix_staggered_ratio")


@dataclass
class Side:
    """A running server, and what it answered in the rounds measured."""

    setup: Setup
    served: Served
    workload: Workload
    temperature: float
    rounds: range
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._next = iter(self.rounds)

    def tokens_per_s(self) -> float:
        """Of the next round."""
        run = serve(self.setup, self.served, self.workload, next(self._next), self.temperature)
        self.answers += run.answers
        return run.tokens_per_s

    def described(self) -> dict[str, float]:
        answers, prompts = self.answers, sum(answer.prompt_tokens for answer in self.answers)
        return {
            "repeated_8grams": round(self.setup.repeated(answers), 3),
            "ended_themselves": statistics.mean(answer.ended_itself for answer in answers),
            "tokens_of_an_answer": statistics.mean(answer.tokens for answer in answers),
            "cached_prompt_share": sum(a.cached_tokens or 0 for a in answers) / prompts,
        }


def serve(
    setup: Setup,
    served: Served,
    workload: Workload,
    round: int,
    temperature: float = TEMPERATURE,
    share: float = 1.0,
    clients: int = CLIENTS,
) -> Run:
    """One round of a workload, or its first conversations."""
    talks = workload.conversations(setup.texts, round)
    talks = talks[: math.ceil(share * len(talks))]
    if Trial.running:  # a few tokens for two users
        talks = [Conversation(talk.turns[:2], talk.system, most_tokens=16) for talk in talks[:2]]
    return converse(
        served, talks, clients=clients, stagger_s=workload.stagger_s, temperature=temperature
    )


def measure(setup: Setup, found: Findings, workloads: Sequence[Workload]) -> None:
    peers = [*setup.llamacpp(*LLAMACPP_WAYS), *setup.openvino()]
    trials = try_all(setup, peers, workloads)
    sampled, greedy = table_of(f"temperature {TEMPERATURE}"), table_of("greedy, for no result")
    rounds, further = range(1, setup.rounds + 1), range(setup.rounds + 1, setup.rounds + 2)
    with running(setup.ours) as ours:
        for workload in workloads:
            tried = trials[workload.key]
            best = max(peers, key=lambda peer: tried.get(peer.name, 0.0)) if tried else None
            with ExitStack() as stack:
                served = [ours, *([stack.enter_context(running(best))] if best else [])]
                for each in served:
                    serve(setup, each, workload, 0)  # warm-up
                sides = [Side(setup, each, workload, TEMPERATURE, rounds) for each in served]
                record = compared(sides)
                last = [Side(setup, each, workload, 0.0, further) for each in served]
                again = compared(last)
            name = best.name if best else "-"
            add_row(sampled, workload, name, record)
            add_row(greedy, workload, name, again)
            about = {"best peer": name, "trials": tried, "greedy": again}
            found.details[workload.key] = about | record
            if best and counts(workload, record):
                found.keys[f"served_{workload.key}_ratio"] = round(record["ratio"]["median"], 3)
    found.tables += [sampled, greedy]


def try_all(
    setup: Setup, peers: Sequence[Server], workloads: Sequence[Workload]
) -> dict[str, dict[str, float]]:
    """Tokens a second by workload and peer. Who answers nonsense or fails does not count."""
    trials: dict[str, dict[str, float]] = {workload.key: {} for workload in workloads}
    for peer in peers:
        with running(peer) as served:
            answer = converse(served, [CAPITAL], clients=1, temperature=0.0).answers[0].text
            if "Paris" not in answer:
                note(f"{peer.name} does not count: it answers {answer!r}")
                continue
            for workload in workloads:
                wait_until_idle()
                try:
                    tried = serve(setup, served, workload, 0, share=0.5).tokens_per_s
                except (OSError, RuntimeError) as error:
                    note(f"{peer.name} fails at {workload.key}: {error}")
                    break
                trials[workload.key][peer.name] = tried
                note(f"{peer.name}, {workload.key}: {tried:.0f}")
    return trials


def compared(sides: Sequence[Side]) -> dict[str, Any]:
    """All rounds, in turn; only ours, where there is no other."""
    ours, *others = sides
    if others:
        record = in_turn(len(ours.rounds), ours.tokens_per_s, others[0].tokens_per_s).record()
    else:
        wait_until_idle()
        record = {"ours": summary([ours.tokens_per_s() for _ in ours.rounds])}
    described = {name: side.described() for name, side in zip(record, sides, strict=False)}
    return {**record, "answers": described}


def counts(workload: Workload, record: Mapping[str, Any]) -> bool:
    repeated = record["answers"]["ours"]["repeated_8grams"]
    if workload.copies or repeated <= MOST_REPEATED:
        return True
    note(f"{workload.key} does not count: {repeated:.0%} of our output's 8-grams are repeats")
    return False


def derived(keys: Mapping[str, float]) -> dict[str, float]:
    """The lower of both ways to share a prefix, and the geometric mean of all workloads, the
    control among them, once each has a result."""
    more = {}
    if all(name in keys for name in SHARED):
        more["served_shared_prefix_ratio"] = min(keys[name] for name in SHARED)
    names = [f"served_{workload.key}_ratio" for workload in ALL]
    if all(name in keys for name in names):
        logarithms = [math.log(keys[name]) for name in names]
        more["served_geomean_ratio"] = round(math.exp(statistics.mean(logarithms)), 3)
    return more


def table_of(title: str) -> Table:
    return Table(
        *("workload", "best peer", "ours", "theirs", "ratio: median (min to max)"),
        *("repeated 8-grams", "ended themselves", "prompts cached"),
        title=f"output tokens/s, {CLIENTS} requests at once, {title}",
    )


def add_row(table: Table, workload: Workload, peer: str, record: Mapping[str, Any]) -> None:
    ours, theirs, ratio = (record.get(name) for name in ("ours", "theirs", "ratio"))
    spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})" if ratio else "-"
    shares = [
        " / ".join(f"{side[name]:.0%}" for side in record["answers"].values())
        for name in ("repeated_8grams", "ended_themselves", "cached_prompt_share")
    ]
    speeds = [f"{side['median']:.0f}" if side else "-" for side in (ours, theirs)]
    table.add_row(workload.key, peer, *speeds, spread, *shares)

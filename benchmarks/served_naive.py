"""Against the unoptimised way: `transformers`, eager, one request after the other."""

from harness import Trial, in_turn, note, summary
from http_load import Answer
from naive import Naive
from servers import running
from serving_parts import Findings, Setup
from throughput import serve
from workloads import MULTI_TURN

FEW = 6
"""It answers so many of a round's requests, each as long as ours was."""


def measure(setup: Setup, found: Findings) -> None:
    eager = Naive(setup.path, setup.threads)
    answers: list[Answer] = []
    rounds = iter(range(3))
    with running(setup.ours) as served:

        def ours() -> float:
            run = serve(setup, served, MULTI_TURN, next(rounds))
            answers[:] = run.answers
            return run.tokens_per_s

        def theirs() -> float:
            some = answers[:: max(1, len(answers) // (2 if Trial.running else FEW))]
            return eager.served_tps([(each.prompt_tokens, each.tokens) for each in some])

        ours()  # warm-up
        pairs = in_turn(1 if Trial.running else 2, ours, theirs)
    ratio = summary(pairs.ratios)["median"]
    found.keys["naive_served_ratio"] = round(ratio, 1)
    about = "transformers, eager, float32, requests as long as ours, one at a time"
    found.details["naive"] = {"workload": MULTI_TURN.key, "peer": about, **pairs.record()}
    note(f"{MULTI_TURN.key}: {ratio:.1f} times {about}")

"""A replay of real conversation arrivals: how much of what was computed before is computed again.

One conversation in 64 of Mooncake's trace, whole and in its order; lengths are those of the trace
over 16, and its 59 minutes pass in one and a half. Prompts are sent as tokens, so that two have the
same beginning just where the trace says that they have.
"""

from collections.abc import Sequence

import numpy as np
from harness import Trial, note, wait_until_idle
from http_load import Answer, at_times
from repeats import reusable
from rich.table import Table
from servers import running
from serving_parts import Findings, Setup
from serving_texts import BLOCK_TOKENS, Arrival

FASTER = 40.0
SAMPLING = {"temperature": 0.7, "seed": 1}


def measure(setup: Setup, found: Findings) -> None:
    arrivals = fitting(setup)
    prompts = prompts_of(setup, arrivals)
    requests = [
        (arrival.at_s / FASTER, {"prompt": prompt, "max_tokens": arrival.answer_tokens, **SAMPLING})
        for arrival, prompt in zip(arrivals, prompts, strict=True)
    ]
    with running(setup.ours) as served:
        wait_until_idle()
        answers = at_times(served, requests)
    ideal = list(reusable(prompts))
    again = [max(0, most - cached(answer)) for most, answer in zip(ideal, answers, strict=True)]
    fraction = sum(again) / sum(ideal)
    first = [answer.first_s for answer in answers]
    record = {
        "requests": len(answers),
        "prompt_tokens": sum(map(len, prompts)),
        "computed_before": sum(ideal),
        "computed_again": sum(again),
        "first_token_p50_s": float(np.percentile(first, 50)),
        "first_token_p99_s": float(np.percentile(first, 99)),
    }
    found.keys["prefix_recompute_fraction"] = round(fraction, 4)
    found.details["replay"] = {"texts": setup.texts.origin, **record}
    table = Table("replay of conversations", *record, "fraction")
    table.add_row("ours", *(f"{value:.4g}" for value in record.values()), f"{fraction:.4f}")
    found.tables.append(table)


def cached(answer: Answer) -> int:
    """What the server says that it did not compute."""
    assert answer.cached_tokens is not None
    return answer.cached_tokens


def fitting(setup: Setup) -> list[Arrival]:
    """The arrivals that fit into the model's context."""
    arrivals = setup.texts.trace
    limit = setup.context_length
    kept = [each for each in arrivals if each.prompt_tokens + each.answer_tokens <= limit]
    if len(kept) < len(arrivals):
        note(f"replay: {len(arrivals) - len(kept)} arrivals are longer than the context, left out")
    return kept[:24] if Trial.running else kept


def prompts_of(setup: Setup, arrivals: Sequence[Arrival]) -> list[list[int]]:
    """Real text, a piece of it for each block of the trace."""
    tokens = setup.codec.encode(
        "\n".join(f"{asked} {told}" for asked, told in setup.texts.problems)
    )
    places: dict[int, int] = {}
    prompts = []
    for arrival in arrivals:
        prompt: list[int] = []
        for block in arrival.blocks:
            # 17 has no factor in common with most lengths: no two blocks begin at one place.
            start = places.setdefault(block, len(places)) * 17 % (len(tokens) - BLOCK_TOKENS)
            prompt += tokens[start : start + BLOCK_TOKENS]
        prompts.append(prompt[: arrival.prompt_tokens])
    return prompts

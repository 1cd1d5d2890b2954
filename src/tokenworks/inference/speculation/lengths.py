"""Decides how much of each draft is verified: as much as makes tokens come faster. Pure."""

from collections.abc import Callable, Sequence

_LEAST_GAIN = 1.05
"""Drafts that promise less than this are left out: what a forward costs is known no better."""


def cheapest_row(rows: int, most: int, seconds: Callable[[int], float]) -> float:
    """What one further row costs beside `rows`, at best, as a part of the average row's cost: a
    token that is less likely than that to be right cannot pay."""
    alone = seconds(rows)
    if alone <= 0.0 or most <= 0:
        return 1.0
    # Costs are looked up where they can turn: at doubling numbers of rows and at the limit.
    further = {most, *(1 << power for power in range(most.bit_length()))}
    return min((seconds(rows + more) - alone) / more for more in further) * rows / alone


def choose_lengths(
    drafts: Sequence[Sequence[float]], rows: int, most: int, seconds: Callable[[int], float]
) -> list[int]:
    """How many tokens to take of each draft, so that tokens per second are as many as can be.

    `drafts`: for each token the chance that it, and all before it, are right. `rows`: what the
    forward runs without drafts, each of them progress. `most`: further rows it may run.
    `seconds`: what a forward of so many rows takes.
    """
    # Chances fall along a draft, so the best rows of all drafts are beginnings of each.
    ranked = sorted(
        ((chance, place) for place, draft in enumerate(drafts) for chance in draft), reverse=True
    )[:most]
    best_rate = rows / seconds(rows) * _LEAST_GAIN if ranked else 0.0
    taken, progress = 0, float(rows)
    for number, (chance, _) in enumerate(ranked, start=1):
        progress += chance
        rate = progress / seconds(rows + number)
        if rate > best_rate:
            best_rate, taken = rate, number
    lengths = [0] * len(drafts)
    for _, place in ranked[:taken]:
        lengths[place] += 1
    return lengths


def rate_of(
    drafts: Sequence[Sequence[float]],
    lengths: Sequence[int],
    rows: int,
    seconds: Callable[[int], float],
) -> float:
    """Tokens a second with so much of each draft; see `choose_lengths`."""
    gained = sum(sum(draft[:length]) for draft, length in zip(drafts, lengths, strict=True))
    return (rows + gained) / seconds(rows + sum(lengths))


def choose_steps(
    right: float,
    *,
    texts: int,
    rows: int,
    most: int,
    seconds: Callable[[int], float],
    guessing: tuple[float, float],
    rate: float,
) -> int:
    """How many tokens a draft model had better guess after each of so many texts, 0 if tokens come
    as fast without: at `rate`, in tokens a second.

    `right`: the share of its guesses that is right. `guessing`: seconds that the first guesses of
    all texts take, and each further ones. `rows`, `most`, `seconds`: see `choose_lengths`.
    """
    first_s, each_s = guessing
    best, best_rate = 0, rate * _LEAST_GAIN
    progress, chance = float(rows), 1.0
    for steps in range(1, most // texts + 1):
        chance *= right
        progress += texts * chance
        took = seconds(rows + steps * texts) + first_s + (steps - 1) * each_s
        if progress / took > best_rate:
            best, best_rate = steps, progress / took
    return best

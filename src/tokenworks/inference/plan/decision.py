"""Decides what is tried next and what is chosen. Pure: costs, trials and a gate in, formats out.

What is gained is the share of the products' time, for a lone answer and for many, half and half.
Each class is tried on its own first, in finer formats before coarser ones; those that pass are then
tried together.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

import msgspec

from tokenworks.inference.models.panel_format import GroupFormat
from tokenworks.inference.models.rounding import Formats, MatrixClass
from tokenworks.inference.plan.costs import FORMATS, ClassCosts, Cost
from tokenworks.inference.quality import Gate, Quality

LEAST_GAIN: Final = 0.01
"""Of the products' time: what is less would be lost in the noise of the next measurement."""
_MOST_TOGETHER: Final = 3
"""Of trials with several classes at once that fail."""
_COARSER: Final = 8
"""Two bits fewer make errors 4 times as large, and divergence, which goes by their squares, 16
times: where half of that is too much, they are not tried."""

GATE: Final = Gate(most_kl=0.005, least_agreement=0.93)
"""Against the weights as the file has them. The divergence decides; agreement, which over 512
places comes out up to 0.02 too low or high, only guards against what a mean hides. To compare:
rounding activations to 8 bits costs 0.004 nats and an agreement of 0.96 (SmolLM2-135M, against
float32)."""


class Trial(msgspec.Struct, frozen=True):
    """What a model with these formats was found to be."""

    formats: dict[MatrixClass, GroupFormat]
    quality: Quality


def gain(costs: Sequence[ClassCosts], formats: Formats) -> float:
    """The share of the products' time that is saved."""
    saved_alone = saved_together = all_alone = all_together = 0.0
    for each in costs:
        held = cost_of(each, formats.get(each.matrix_class))
        saved_alone += each.stored.alone - held.alone
        saved_together += each.stored.together - held.together
        all_alone += each.stored.alone
        all_together += each.stored.together
    if not (all_alone and all_together):
        return 0.0
    return (saved_alone / all_alone + saved_together / all_together) / 2


def cost_of(each: ClassCosts, format: GroupFormat | None) -> Cost:
    """What a class costs in a format; None, or one that takes no less, is as it is stored."""
    return each.stored if format is None else each.rounded.get(format, each.stored)


def why_untried(
    each: ClassCosts,
    format: GroupFormat,
    costs: Sequence[ClassCosts],
    trials: Sequence[Trial],
    gate: Gate,
) -> str:
    """Why a class is not worth a trial in a format, in words; empty where it is."""
    if format not in each.rounded:
        return "takes no less than what the file has"
    saved = gain(costs, {each.matrix_class: format})
    if saved < LEAST_GAIN:
        return f"saves {saved:.1%} of the products' time, less than {LEAST_GAIN:.0%}"
    for finer in FORMATS[FORMATS.index(format) + 1 :]:
        for trial in trials:
            if trial.formats == {each.matrix_class: finer}:
                if not _passed(trial, gate):
                    return f"{finer} is too coarse already"
                if trial.quality.kl * _COARSER > gate.most_kl:
                    return f"{finer} has {trial.quality.kl:.4f} nats of {gate.most_kl:g} already"
    return ""


def next_trial(
    costs: Sequence[ClassCosts], trials: Sequence[Trial], gate: Gate
) -> dict[MatrixClass, GroupFormat] | None:
    """What to try next; None when nothing is left that could be chosen."""
    tried = [trial.formats for trial in trials]
    for format in reversed(FORMATS):
        alone = [
            formats
            for each in costs
            if (formats := {each.matrix_class: format}) not in tried
            and not why_untried(each, format, costs, trials, gate)
        ]
        if alone:
            return max(alone, key=lambda formats: gain(costs, formats))
    failed = [t for t in trials if len(t.formats) > 1 and not _passed(t, gate)]
    if len(failed) >= _MOST_TOGETHER:
        return None
    least = gain(costs, chosen(costs, trials, gate))
    together = [
        formats
        for formats in _several(trials, gate)
        if formats not in tried and gain(costs, formats) > least
    ]
    return max(together, key=lambda formats: gain(costs, formats), default=None)


def chosen(
    costs: Sequence[ClassCosts], trials: Sequence[Trial], gate: Gate
) -> dict[MatrixClass, GroupFormat]:
    """Of what was tried and passed, that which gains most; as the file has it where nothing is."""
    passed = [trial.formats for trial in trials if _passed(trial, gate)]
    best = max(passed, key=lambda formats: gain(costs, formats), default={})
    return best if gain(costs, best) >= LEAST_GAIN else {}


def _passed(trial: Trial, gate: Gate) -> bool:
    return gate.judge(trial.quality).passed


def _several(trials: Sequence[Trial], gate: Gate) -> Iterator[dict[MatrixClass, GroupFormat]]:
    """Classes that passed alone, where their divergences add up to what may still pass."""
    options: dict[MatrixClass, list[Trial]] = {}
    for trial in trials:
        if len(trial.formats) == 1 and _passed(trial, gate):
            options.setdefault(next(iter(trial.formats)), []).append(trial)
    for picked in product(*([None, *of_class] for of_class in options.values())):
        some = [trial for trial in picked if trial is not None]
        if len(some) > 1 and sum(trial.quality.kl for trial in some) <= gate.most_kl:
            yield {name: f for trial in some for name, f in trial.formats.items()}

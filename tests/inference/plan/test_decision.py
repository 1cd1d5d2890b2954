"""The decision on its own, with made-up costs and trials: what is decided must hold for all."""

import math
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from tokenworks.inference.models.panel_format import GroupFormat
from tokenworks.inference.models.rounding import CLASSES, Formats, MatrixClass
from tokenworks.inference.plan.costs import ClassCosts, Cost
from tokenworks.inference.plan.decision import (
    GATE,
    LEAST_GAIN,
    Trial,
    chosen,
    gain,
    next_trial,
    why_untried,
)
from tokenworks.inference.plan.plan import rows_of
from tokenworks.inference.quality import Quality

SAME = {"kl_standard_error": 0.0, "kl_p99": 0.0, "tokens": 512}


def costs_of(
    name: MatrixClass, weight: float = 1.0, q6: float = 0.8, q4: float = 0.6
) -> ClassCosts:
    def cost(share: float) -> Cost:
        return Cost(int(1000 * weight * share), weight * share, 3 * weight * share)

    return ClassCosts(matrix_class=name, stored=cost(1), rounded={"q6": cost(q6), "q4": cost(q4)})


def quality(kl: float, agreement: float = 0.99) -> Quality:
    return Quality(kl=kl, same_top_token=agreement, **SAME)


def played(
    costs: list[ClassCosts], found: Callable[[Formats], Quality]
) -> tuple[list[Trial], dict[MatrixClass, GroupFormat]]:
    """All trials that are asked for, and what is chosen."""
    trials: list[Trial] = []
    while (formats := next_trial(costs, trials, GATE)) is not None:
        assert formats not in [trial.formats for trial in trials], "tried twice"
        trials.append(Trial(formats, found(formats)))
    return trials, chosen(costs, trials, GATE)


def adding(kl: dict[tuple[MatrixClass, GroupFormat], float]) -> Callable[[Formats], Quality]:
    return lambda formats: quality(sum(kl[item] for item in formats.items()))


def test_a_head_that_passes_in_six_bits_is_taken_and_four_bits_are_not_tried() -> None:
    costs = [costs_of("output")]

    trials, formats = played(costs, adding({("output", "q6"): 0.0025, ("output", "q4"): 0.03}))

    assert formats == {"output": "q6"}
    assert [trial.formats for trial in trials] == [{"output": "q6"}]
    assert why_untried(costs[0], "q4", costs, trials, GATE) == "q6 has 0.0025 nats of 0.005 already"


def test_classes_that_pass_alone_are_chosen_together_only_if_they_pass_together() -> None:
    costs = [costs_of("output"), costs_of("down", 2)]
    kl = {("output", "q6"): 0.002, ("down", "q6"): 0.002, ("output", "q4"): 1, ("down", "q4"): 1}

    def worse_together(formats: Formats) -> Quality:
        found = adding(kl)(formats)
        return quality(1.0) if len(formats) > 1 else found

    assert played(costs, adding(kl))[1] == {"output": "q6", "down": "q6"}
    assert played(costs, worse_together)[1] == {"down": "q6"}  # the one that gains more


def test_nothing_is_tried_that_saves_too_little_or_takes_no_less() -> None:
    costs = [costs_of("output", 1, q6=0.995, q4=0.995), costs_of("down", 1, q6=1.2, q4=1.1)]

    trials, formats = played(costs, lambda _: quality(0))

    assert (trials, formats) == ([], {})
    assert "less than 1%" in why_untried(costs[0], "q6", costs, [], GATE)
    assert "takes no less" in why_untried(costs[0], "q8", costs, [], GATE)


def test_what_agrees_too_seldom_is_not_chosen_however_small_its_divergence() -> None:
    assert played([costs_of("output")], lambda _: quality(0.0001, agreement=0.9))[1] == {}


def test_a_divergence_that_is_no_number_is_not_chosen() -> None:
    assert played([costs_of("output")], lambda _: quality(math.nan))[1] == {}


@st.composite
def situations(
    draw: st.DrawFn,
) -> tuple[list[ClassCosts], dict[tuple[MatrixClass, GroupFormat], float]]:
    names = draw(st.lists(st.sampled_from(CLASSES), unique=True, min_size=1))
    shares = st.floats(0.3, 1.1)
    costs = [
        costs_of(name, draw(st.floats(0.1, 10)), q6=draw(shares), q4=draw(shares)) for name in names
    ]
    kl = {(name, f): draw(st.floats(0, 0.02)) for name in names for f in ("q6", "q4")}
    return costs, kl


@given(situations(), st.floats(0, 2), st.integers(0, 30))
def test_what_is_chosen_was_tried_and_passed_and_gains_most(
    situation: tuple[list[ClassCosts], dict[tuple[MatrixClass, GroupFormat], float]],
    together: float,
    patience: int,
) -> None:
    costs, kl = situation

    def found(formats: Formats) -> Quality:
        factor = together if len(formats) > 1 else 1.0
        return quality(factor * adding(kl)(formats).kl)

    trials, _formats = played(costs, found)
    some = trials[:patience]  # as if time had been over

    assert len(trials) <= 2 * len(costs) + 2 ** (2 * len(costs))
    for seen in (trials, some):
        passed = [t.formats for t in seen if t.quality.kl <= GATE.most_kl]
        best = chosen(costs, seen, GATE)
        assert best == {} or best in passed
        assert all(gain(costs, best) >= gain(costs, other) for other in passed) or best == {}
        assert best == {} or gain(costs, best) >= LEAST_GAIN


@given(situations())
def test_every_class_has_one_chosen_row_and_each_row_a_reason(
    situation: tuple[list[ClassCosts], dict[tuple[MatrixClass, GroupFormat], float]],
) -> None:
    costs, kl = situation
    trials, formats = played(costs, adding(kl))

    rows = rows_of(costs, trials, GATE)

    picked = {row.matrix_class: row.format for row in rows if row.chosen}
    assert picked == {each.matrix_class: formats.get(each.matrix_class) for each in costs}
    assert all(row.why for row in rows if row.format is not None)

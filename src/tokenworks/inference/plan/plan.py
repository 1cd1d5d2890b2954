"""A plan: what was chosen for a model on this machine, and all that it was chosen by."""

from collections.abc import Sequence

import msgspec

from tokenworks.inference.models.panel_format import GroupFormat
from tokenworks.inference.models.rounding import NO_ROUNDING, MatrixClass, Rounding
from tokenworks.inference.plan.costs import FORMATS, ClassCosts
from tokenworks.inference.plan.decision import Trial, chosen, cost_of, gain, why_untried
from tokenworks.inference.quality import Gate, Quality


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One class of matrices in one format; None is as the file has it. Seconds are what its
    products take in a forward, of one row and of 16. `quality` is what was found with this class
    alone in this format."""

    matrix_class: MatrixClass
    format: GroupFormat | None
    nbytes: int
    alone_seconds: float
    together_seconds: float
    quality: Quality | None = None
    chosen: bool
    why: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`quality` is that of all that is chosen, together, against the weights as the file has them.

    `gain` is the share of the products' time that is saved; `complete` says that nothing was left
    out for want of time; `note` is said where there is no more to tell. `seconds` is what planning
    took.
    """

    rounding: Rounding = NO_ROUNDING
    quality: Quality | None = None
    gain: float = 0.0
    stored_bytes: int
    nbytes: int
    path: str
    threads: int
    gate: Gate
    rows: tuple[Row, ...] = ()
    complete: bool = True
    note: str = ""
    seconds: float = 0.0


def rows_of(costs: Sequence[ClassCosts], trials: Sequence[Trial], gate: Gate) -> tuple[Row, ...]:
    """Every class in every format that takes less than the file's, and why it is chosen or not."""
    picked = chosen(costs, trials, gate)
    rows = []
    for each in costs:
        of = each.matrix_class
        for format in (None, *(f for f in reversed(FORMATS) if f in each.rounded)):
            held = cost_of(each, format)
            trial = next((t for t in trials if format and t.formats == {of: format}), None)
            is_chosen = picked.get(of) == format
            rows.append(
                Row(
                    matrix_class=of,
                    format=format,
                    nbytes=held.nbytes,
                    alone_seconds=held.alone,
                    together_seconds=held.together,
                    quality=trial.quality if trial else None,
                    chosen=is_chosen,
                    why=_why(each, format, costs, trials, gate, is_chosen=is_chosen),
                )
            )
    return tuple(rows)


def _why(
    each: ClassCosts,
    format: GroupFormat | None,
    costs: Sequence[ClassCosts],
    trials: Sequence[Trial],
    gate: Gate,
    *,
    is_chosen: bool,
) -> str:
    of = each.matrix_class
    if format is None:
        if not is_chosen:
            return ""
        return "nothing that pays passed" if each.rounded else "nothing takes less"
    if reason := why_untried(each, format, costs, trials, gate):
        return reason
    trial = next((t for t in trials if t.formats == {of: format}), None)
    if trial is None:
        return "not tried: time was over"
    verdict = gate.judge(trial.quality)
    if is_chosen:
        return f"saves {gain(costs, {of: format}):.1%} of the products' time"
    return verdict.explanation if not verdict.passed else "passed; others together gain more"

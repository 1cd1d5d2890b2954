"""Makes a plan for a model, within a budget of time."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.models.packing import WIDE_PATHS, packed_bytes
from tokenworks.inference.models.rounding import AS_STORED, Formats, Rounding
from tokenworks.inference.plan.costs import (
    TOGETHER,
    ClassCosts,
    class_costs,
    measure_panels,
    rounding_could_pay,
)
from tokenworks.inference.plan.decision import GATE, Trial, chosen, gain, next_trial
from tokenworks.inference.plan.plan import Plan, rows_of
from tokenworks.inference.quality import calibration_text
from tokenworks.inference.text.open import open_codec

_OPEN_SECONDS_PER_BYTE = 1.5e-9  # packed; loading takes 0.1 to 0.7 s per GB, a cold disk more
_SPREAD = 1.25  # of one trial's time and the next one's


def make_plan(
    path: Path, *, isa: str, threads: int, budget: float | None, timer: Callable[[], float]
) -> Plan:
    """Choose formats for the model at `path`, on one instruction-set path and so many threads.

    `budget` is how many seconds that may take, about; None is as many as it takes. What is not
    tried stays as the file has it. Raises ModelError, and UnsupportedByKernels for a model that the
    kernels cannot run.
    """
    began = timer()
    model = load_model(path)
    try:
        making = _Making(model, isa, threads, budget, lambda: timer() - began)
        plan = making.plan(path)
    finally:
        model.close()
    return msgspec.structs.replace(plan, seconds=timer() - began)


class _Making:
    def __init__(
        self,
        model: Model,
        isa: str,
        threads: int,
        budget: float | None,
        elapsed: Callable[[], float],
    ) -> None:
        self._model, self._isa, self._threads = model, isa, threads
        self._budget, self._elapsed = budget, elapsed

    def plan(self, path: Path) -> Plan:
        model = self._model
        if model.config.is_encoder:
            return self._as_stored("an encoder makes no tokens to compare")
        if not rounding_could_pay(model.tensors, model.config):
            return self._as_stored("the file's own formats are the smallest already")
        seconds = measure_panels(model.tensors, model.config, path=self._isa, threads=self._threads)
        costs = class_costs(model.tensors, model.config, seconds)
        if next_trial(costs, (), GATE) is None:
            return self._untried(costs, "")
        if self._budget is not None and (needed := self._least_seconds(costs)) > self._budget:
            note = f"trying takes {needed:.0f} s at least, more than {self._budget:g} s"
            return msgspec.structs.replace(self._untried(costs, note), complete=False)
        return self._tried(path, costs)

    def _tried(self, path: Path, costs: tuple[ClassCosts, ...]) -> Plan:
        from tokenworks.inference.plan.trials import Trials, windows_for  # kernels may be missing

        config = self._model.config
        tokens = open_codec(path).prompt(calibration_text())
        windows = windows_for(tokens, config.vocabulary, config.context_length)
        began = self._elapsed()
        trials = Trials(self._model, windows, path=self._isa, threads=self._threads)
        done: list[Trial] = []
        while (formats := next_trial(costs, done, GATE)) is not None:
            # The longest so far, loading among them, stands for the next one.
            now = self._elapsed()
            if self._budget is not None and now + _SPREAD * (now - began) > self._budget:
                break
            began = now
            done.append(trials.run(formats))
        plan = self._decided(costs, done, trials.rounding)
        return msgspec.structs.replace(plan, complete=formats is None)

    def _least_seconds(self, costs: tuple[ClassCosts, ...]) -> float:
        """Of loading the model, and of the file's logits and one trial's."""
        from tokenworks.inference.plan.trials import WINDOW

        rows = 2 * 2 * WINDOW
        forwards = sum(each.stored.together for each in costs) * rows / TOGETHER
        return 2 * sum(self._packed(AS_STORED)) * _OPEN_SECONDS_PER_BYTE + forwards

    def _packed(self, formats: Formats) -> tuple[int, ...]:
        model, wide = self._model, self._isa in WIDE_PATHS
        return tuple(packed_bytes(model.tensors, model.config, formats, wide=wide).values())

    def _decided(
        self,
        costs: tuple[ClassCosts, ...],
        done: list[Trial],
        rounding: Callable[[Formats], Rounding],
    ) -> Plan:
        formats = chosen(costs, done, GATE)
        plan = msgspec.structs.replace(self._as_stored(""), rows=rows_of(costs, done, GATE))
        if not formats:
            return plan
        return msgspec.structs.replace(
            plan,
            rounding=rounding(formats),
            quality=next(trial.quality for trial in done if trial.formats == formats),
            gain=gain(costs, formats),
            nbytes=sum(self._packed(formats)),
        )

    def _untried(self, costs: tuple[ClassCosts, ...], note: str) -> Plan:
        return msgspec.structs.replace(self._as_stored(note), rows=rows_of(costs, (), GATE))

    def _as_stored(self, note: str) -> Plan:
        stored = sum(self._packed(AS_STORED))
        return Plan(
            stored_bytes=stored,
            nbytes=stored,
            path=self._isa,
            threads=self._threads,
            gate=GATE,
            note=note,
        )

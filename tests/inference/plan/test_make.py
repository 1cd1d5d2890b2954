"""Plans for real models made here, with the real kernels."""

import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tokenworks.inference import _kernels
from tokenworks.inference.executors.native import NativeExecutor, supported_paths
from tokenworks.inference.models.architectures.bert import BERT
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.packing import packed_bytes
from tokenworks.inference.models.random_model import (
    TINY_CONFIG,
    tiny_config,
    write_random_model,
)
from tokenworks.inference.models.rounding import NO_ROUNDING
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.plan.costs import FORMATS, TOGETHER, class_costs, measure_panels
from tokenworks.inference.plan.decision import GATE
from tokenworks.inference.plan.make import make_plan
from tokenworks.inference.plan.plan import Plan
from tokenworks.inference.plan.remembered import plan_name, read_plan, write_plan
from tokenworks.inference.plan.trials import Trials, windows_for
from tokenworks.inference.text.tiny_vocabulary import tiny_vocabulary

FASTEST = supported_paths()[0]


def written(path: Path, type: TensorType, **changes: object) -> Path:
    vocabulary = tiny_vocabulary()
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    config = replace(TINY_CONFIG, vocabulary=len(tokens), **changes)
    write_random_model(path, config, type=type, metadata=vocabulary)
    return path


def planned(path: Path, budget: float | None = None) -> Plan:
    return make_plan(path, isa=FASTEST, threads=1, budget=budget, timer=time.perf_counter)


def test_costs_are_those_of_the_kernels_layout(tmp_path: Path) -> None:
    model = load_model(written(tmp_path / "m.gguf", TensorType.F16))
    seconds = measure_panels(model.tensors, model.config, path="portable", threads=1)

    costs = class_costs(model.tensors, model.config, seconds)

    assert {key[2] for key in seconds} == {1, TOGETHER}
    assert min(seconds.values()) > 0
    stored = sum(packed_bytes(model.tensors, model.config).values())
    for each in costs:
        assert set(each.rounded) == {"q4", "q6"}
        for format, cost in each.rounded.items():
            rounded = packed_bytes(model.tensors, model.config, {each.matrix_class: format})
            assert stored - sum(rounded.values()) == each.stored.nbytes - cost.nbytes > 0


@pytest.mark.parametrize("type", [TensorType.Q4_0, TensorType.Q4_1, TensorType.Q8_0])
def test_every_class_costs_time_in_whatever_format_its_file_has(
    tmp_path: Path, type: TensorType
) -> None:
    """Else what is saved by rounding the others would look larger than it is."""
    path = tmp_path / "m.gguf"
    write_random_model(path, type=type, embedding_type=TensorType.Q8_0)
    model = load_model(path)

    seconds = measure_panels(model.tensors, model.config, path=FASTEST, threads=1)

    for each in class_costs(model.tensors, model.config, seconds):
        assert each.stored.alone > 0, each.matrix_class
        assert each.stored.together > 0, each.matrix_class


@pytest.mark.parametrize("isa", supported_paths())
def test_many_rows_take_longer_than_one(isa: str) -> None:
    sizes = {"memory_bytes": 1 << 20, "pass_bytes": 1 << 18, "runs": 15}
    one = _kernels.panel_seconds(isa, 1, 96, FORMATS, 1, **sizes)
    many = _kernels.panel_seconds(isa, 1, 96, FORMATS, 64, **sizes)

    assert len(one) == len(many) == len(FORMATS)
    assert all(0 < few < more for few, more in zip(one, many, strict=True))


def test_what_cannot_be_timed_is_refused() -> None:
    sizes = {"memory_bytes": 1, "pass_bytes": 1, "runs": 1}
    for inputs, formats, rows in (
        (33, ["q4"], 1),
        (32, ["bf16"], 1),
        (32, [""], 1),
        (32, ["q4"], 0),
    ):
        with pytest.raises(ValueError, match=r"whole groups|no format|without a name|at least 1"):
            _kernels.panel_seconds("portable", 1, inputs, formats, rows, **sizes)


def test_a_plan_says_what_the_executor_then_does(tmp_path: Path) -> None:
    path = written(tmp_path / "m.gguf", TensorType.F16)

    plan = planned(path)

    assert plan.complete
    assert plan.seconds > 0
    executor = NativeExecutor(
        load_model(path), isa=FASTEST, threads=1, context_length=0, rounding=plan.rounding
    )
    assert executor.weight_bytes == plan.nbytes <= plan.stored_bytes
    assert (plan.quality is None) == (plan.rounding == NO_ROUNDING)
    assert plan.quality is None or GATE.judge(plan.quality).passed
    assert {row.matrix_class for row in plan.rows} == {"attention", "gate and up", "down", "output"}


def test_trials_are_repeatable_and_the_files_own_formats_cost_nothing(tmp_path: Path) -> None:
    model = load_model(written(tmp_path / "m.gguf", TensorType.Q8_0))
    windows = windows_for(list(range(300)), model.config.vocabulary, 64)
    trials = Trials(model, windows, path=FASTEST, threads=2)

    first = trials.run({"output": "q6"})
    coarse = trials.run({"output": "q4", "down": "q4"})
    again = trials.run({"output": "q6"})

    assert first == again
    assert 0 < first.quality.kl < coarse.quality.kl
    assert trials.run({}).quality.kl == 0
    assert len(trials.rounding({"output": "q6"}).output_importance) == model.config.hidden
    assert trials.rounding({"down": "q6"}).output_importance == ()


def test_errors_that_count_by_what_the_head_reads_diverge_less(tmp_path: Path) -> None:
    """Against the same rounding with all inputs alike."""
    model = load_model(written(tmp_path / "m.gguf", TensorType.F32, hidden=256))
    trials = Trials(
        model, windows_for(list(range(300)), model.config.vocabulary, 64), path=FASTEST, threads=2
    )
    counted = trials.run({"output": "q4"})

    trials.output_importance = ()
    alike = trials.run({"output": "q4"})

    assert counted.quality.kl != alike.quality.kl


def test_without_time_all_stays_and_says_why(tmp_path: Path) -> None:
    plan = planned(written(tmp_path / "m.gguf", TensorType.F16, hidden=256), budget=0.0)

    assert plan.rounding == NO_ROUNDING
    assert plan.nbytes == plan.stored_bytes
    # On a machine where no format pays, none is left out for want of time.
    assert (not plan.complete and "s at least" in plan.note) or plan.complete


def test_time_that_runs_out_between_trials_keeps_what_was_tried(tmp_path: Path) -> None:
    path = written(tmp_path / "m.gguf", TensorType.F16)
    clock = iter(range(1000))  # a second whenever it is looked at

    plan = make_plan(path, isa=FASTEST, threads=1, budget=6, timer=lambda: float(next(clock)))

    tried = [row for row in plan.rows if row.quality is not None]
    assert len(tried) <= 3
    assert plan.complete or any("time was over" in row.why for row in plan.rows)


def test_a_file_in_four_bits_has_nothing_to_gain(tmp_path: Path) -> None:
    plan = planned(written(tmp_path / "m.gguf", TensorType.Q4_0))

    assert plan.rounding == NO_ROUNDING
    assert plan.complete
    assert plan.note == "the file's own formats are the smallest already"


def test_rows_of_no_whole_groups_have_nothing_to_gain(tmp_path: Path) -> None:
    path = written(tmp_path / "m.gguf", TensorType.F16, hidden=72, feed_forward=100)

    assert planned(path).rounding == NO_ROUNDING


def test_an_encoder_is_left_as_it_is(tmp_path: Path) -> None:
    config = tiny_config(BERT)
    write_random_model(tmp_path / "m.gguf", config, type=TensorType.F16)

    plan = planned(tmp_path / "m.gguf")

    assert plan.rounding == NO_ROUNDING
    assert "encoder" in plan.note


def test_windows_are_fewer_for_large_vocabularies_and_spread_over_the_text() -> None:
    text = list(range(5000))

    few, many = windows_for(text, 262_144, 2048), windows_for(text, 5_000, 2048)

    assert [len(window) for window in few] == [128] * 2
    assert [window[0] for window in many] == [0, 1152, 2432, 3712]
    assert [len(window) for window in windows_for(text, 5_000, 20)] == [20] * 4
    assert windows_for([1, 2, 999], 10, 64) == [[1, 2]]


def test_a_plan_is_read_back_as_it_was_and_a_torn_one_is_none(tmp_path: Path) -> None:
    plan = planned(written(tmp_path / "m.gguf", TensorType.F16))
    place = tmp_path / "plan.json"

    write_plan(place, plan)

    assert read_plan(place) == plan
    for torn in (place.read_bytes()[:-20], b"", b"[]", b'{"rounding": {"formats": {"x": "q2"}}}'):
        place.write_bytes(torn)
        assert read_plan(place) is None
    assert read_plan(tmp_path / "none.json") is None


def test_a_plans_name_changes_with_all_it_depends_on() -> None:
    known = {"model": "a", "machine": "b", "isa": "avx2", "threads": 2}
    changes = ({"model": "c"}, {"machine": "c"}, {"isa": "portable"}, {"threads": 3})

    names = {plan_name(**(known | change)) for change in ({}, *changes)}

    assert len(names) == 5
    assert plan_name(**known) in names


def test_a_plan_travels_as_json(tmp_path: Path) -> None:
    plan = planned(written(tmp_path / "m.gguf", TensorType.Q8_0))

    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan

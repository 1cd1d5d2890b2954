"""Predictions: the arithmetic, and against the real engine on a model made here."""

import statistics
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.errors import ConfigError
from tokenworks.inference.calibration import WIDE, calibrate
from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.native import NativeExecutor, choose_path
from tokenworks.inference.messages import Generate, Sampling
from tokenworks.inference.models.footprint import Footprint
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.packing import footprint_of
from tokenworks.inference.models.random_model import write_random_model
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.prediction import (
    PROGRAM_BYTES,
    Calibration,
    at,
    at_contexts,
    token_seconds,
)
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.clock import MonotonicClock

CALIBRATION = Calibration(
    path="avx2",
    threads=2,
    four_bit_rate=8e9,
    weight_rate=10e9,
    kv_rate=5e9,
    layer_seconds=1e-5,
    step_seconds=1e-4,
    entry_seconds=1e-8,
    int8_operations=1e11,
)
SIZE = Footprint(
    packed_bytes=100_000_000,
    layers=10,
    kv_heads=4,
    head_dim=64,
    vocabulary=10_000,
    context_length=4096,
)


def test_a_token_costs_what_it_reads_and_what_each_layer_step_and_entry_costs() -> None:
    assert SIZE.kv_bytes_per_token == 10_240
    assert token_seconds(SIZE, 1000, CALIBRATION) == pytest.approx(
        0.01 + 10_240_000 / 5e9 + 1e-4 + 1e-4 + 1e-4
    )


def test_contexts_go_as_far_as_the_model() -> None:
    assert [row.tokens for row in at_contexts(SIZE, None, None)] == [64, 2048, 4096]
    longer = at_contexts(replace_context(131_072), None, None)
    assert [row.tokens for row in longer] == [64, 2048, 8192, 131_072]
    assert [row.tokens for row in at_contexts(replace_context(512), None, None)] == [64, 512]


def test_what_is_not_known_is_not_claimed() -> None:
    row = at(SIZE, 2048, None, None)

    assert (row.margin_bytes, row.fits, row.tokens_per_second) == (None, None, None)


@given(st.integers(0, 2 * 10**9), st.integers(1, 4096))
def test_it_fits_exactly_when_nothing_is_missing(usable: int, tokens: int) -> None:
    row = at(SIZE, tokens, usable, CALIBRATION)

    assert row.needed_bytes == SIZE.packed_bytes + SIZE.kv_bytes(tokens) + PROGRAM_BYTES
    assert row.fits == (usable >= row.needed_bytes)
    assert row.margin_bytes == usable - row.needed_bytes


def test_a_prediction_is_near_what_the_engine_then_does(tmp_path: Path) -> None:
    """Loose, because the machine that runs tests may be busy: this catches a wrong unit or term."""
    path = tmp_path / "m.gguf"
    write_random_model(path, replace(WIDE, layers=6, vocabulary=4000), type=TensorType.Q8_0)
    isa = choose_path("auto")
    executor = NativeExecutor(load_model(path), isa=isa, threads=1, context_length=0)
    engine = Engine(executor, EngineSettings(model_path="", model_id="m"), MonotonicClock())
    engine.submit(Generate(request_id="a", prompt=[1], sampling=Sampling(max_tokens=40)))
    engine.step()

    calibration = calibrate(isa=isa, threads=1, cache_bytes=0)
    steps = []
    while engine.busy:
        began = time.perf_counter()
        engine.step()
        steps.append(time.perf_counter() - began)

    predicted = token_seconds(footprint_of(path), 20, calibration)
    assert statistics.median(steps) / 4 < predicted < statistics.median(steps) * 4
    assert calibration.int8_operations > 1e8


def test_calibration_refuses_what_this_processor_cannot_run() -> None:
    with pytest.raises(ConfigError, match="cannot run the instruction set"):
        calibrate(isa="none", threads=1, cache_bytes=0)


def replace_context(tokens: int) -> Footprint:
    return Footprint(
        packed_bytes=SIZE.packed_bytes,
        layers=SIZE.layers,
        kv_heads=SIZE.kv_heads,
        head_dim=SIZE.head_dim,
        vocabulary=SIZE.vocabulary,
        context_length=tokens,
    )

"""Measures what the native kernels and the engine reach on this machine, on models made for it.

A wide model, larger than the caches, gives the rates at which a token's forward reads weights of 4
and of 8 bits; one of two such layers, after a long prompt, that of keys and values; a narrow one,
all in cache, the cost of each layer's barriers and of the engine's step.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Executor, Span
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.messages import Generate, Sampling
from tokenworks.inference.models.config import ModelConfig, expected_tensors
from tokenworks.inference.models.footprint import Footprint
from tokenworks.inference.models.gguf_writer import EncodedTensor, write_gguf
from tokenworks.inference.models.kv_format import KvFormat
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.packing import footprint_of
from tokenworks.inference.models.quantisation import quantise
from tokenworks.inference.models.random_model import TINY_CONFIG, config_metadata
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.prediction import Calibration
from tokenworks.inference.sampler import sample
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.clock import MonotonicClock

WIDE = replace(
    TINY_CONFIG,
    name="wide",
    layers=16,
    hidden=768,
    heads=12,
    kv_heads=4,
    head_dim=64,
    feed_forward=2048,
    context_length=2048,
    rope_dim=64,
)
FLAT = replace(WIDE, name="flat", layers=2)
NARROW = replace(TINY_CONFIG, name="narrow", layers=32, context_length=256)
_PREFILL = 512
_PROMPT = 2 * _PREFILL
_SAMPLED = 32_768
_RUNS = 31

Timer = Callable[[], float]


def calibrate(
    *,
    isa: str,
    threads: int,
    cache_bytes: int,
    kv_format: KvFormat = "bf16",
    timer: Timer = time.perf_counter,
) -> Calibration:
    """Measure for about a second. `cache_bytes` is the last level of caches: the wide model gets
    twice that in weights, within 60 to 240 MB.

    Raises ConfigError if this processor cannot run `isa`.
    """
    with tempfile.TemporaryDirectory(prefix="tokenworks-") as folder:
        path = Path(folder) / "model.gguf"
        narrow, _ = _open(path, NARROW, isa, threads)
        step = _engine_step(narrow, timer)
        narrow_forward = _forward(narrow, 0, timer)
        flat, flat_size = _open(path, FLAT, isa, threads, kv_format=kv_format)
        flat.allocate(_PROMPT // PAGE_TOKENS)
        prefill = _seconds(lambda: flat.forward(_batch(0, _PREFILL)), 2, timer)
        flat.forward(_batch(_PREFILL, _PREFILL))
        short, long = _forward(flat, 0, timer), _forward(flat, _PROMPT - 1, timer)
        layer_seconds = narrow_forward / NARROW.layers
        step_seconds = max(0.0, step - narrow_forward)

        def weight_rate(type: TensorType) -> float:
            wide, size = _open(path, _beyond(WIDE, type, cache_bytes), isa, threads, type)
            # In the engine: between forwards threads sleep and caches fill with other things.
            wide_step = _engine_step(wide, timer)
            streaming = wide_step - step_seconds - layer_seconds * size.layers
            # Noise must not turn a difference of two times into a negative or endless rate.
            return size.packed_bytes / max(streaming, wide_step / 4)

        four_bit_rate = weight_rate(TensorType.Q4_1)
        eight_bit_rate = weight_rate(TensorType.Q8_0)
    attention = max(long - short, long / 10)
    return Calibration(
        path=isa,
        threads=threads,
        four_bit_rate=four_bit_rate,
        weight_rate=eight_bit_rate,
        kv_rate=flat_size.kv_bytes(_PROMPT) / attention,
        layer_seconds=layer_seconds,
        step_seconds=step_seconds,
        entry_seconds=_entry_seconds(timer),
        int8_operations=2.0 * _PREFILL * _products(FLAT) * FLAT.layers / prefill,
    )


def _beyond(config: ModelConfig, type: TensorType, cache_bytes: int) -> ModelConfig:
    of_layer = type.nbytes((_products(config),))
    wanted = min(max(2 * cache_bytes, 60_000_000), 240_000_000)
    return replace(config, layers=max(config.layers, -(-wanted // of_layer)))


def _products(config: ModelConfig) -> int:
    """Multiply-adds of one layer's matrices for one token."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return config.hidden * (2 * queries + 2 * keys + 3 * config.feed_forward)


def _open(
    path: Path,
    config: ModelConfig,
    isa: str,
    threads: int,
    type: TensorType = TensorType.Q4_1,
    kv_format: KvFormat = "bf16",
) -> tuple[Executor, Footprint]:
    write_gguf(path, config_metadata(config), _tensors(config, type))
    model = load_model(path)
    executor = NativeExecutor(
        model, isa=isa, threads=threads, context_length=0, kv_format=kv_format
    )
    return executor, msgspec.structs.replace(footprint_of(path), kv_format=kv_format)


def _tensors(config: ModelConfig, type: TensorType) -> Iterator[EncodedTensor]:
    """Random weights, matrices in `type`; every tensor of a shape has the same, made once."""
    random = np.random.default_rng(0)
    made: dict[tuple[int, ...], EncodedTensor] = {}
    for name, shape, _ in expected_tensors(config):
        if shape not in made:
            stored = TensorType.F32 if len(shape) == 1 else type
            values = random.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)
            made[shape] = EncodedTensor(name, stored, shape, quantise(values, stored))
        yield replace(made[shape], name=name)


def _batch(start: int, length: int) -> Batch:
    pages = np.arange(-(-(start + length) // PAGE_TOKENS), dtype=np.int32)
    return Batch(
        tokens=np.arange(start, start + length, dtype=np.int32) % TINY_CONFIG.vocabulary,
        spans=(Span(start=start, length=length, pages=pages),),
        logit_rows=np.array([length - 1], np.int32),
    )


def _forward(executor: Executor, position: int, timer: Timer) -> float:
    batch = _batch(position, 1)
    return _seconds(lambda: executor.forward(batch), _RUNS, timer)


def _engine_step(executor: Executor, timer: Timer) -> float:
    """Seconds of a step that decodes one request."""
    settings = EngineSettings(
        model_path="", model_id="calibration", kv_memory_mb=16, speculation="off"
    )
    engine = Engine(executor, settings, MonotonicClock())
    sampling = Sampling(max_tokens=_RUNS + 2)
    engine.submit(Generate(request_id="calibration", prompt=[1], sampling=sampling))
    engine.step()
    return _seconds(engine.step, _RUNS, timer)


def _entry_seconds(timer: Timer) -> float:
    logits = np.random.default_rng(0).standard_normal(_SAMPLED).astype(np.float32)
    sampling = Sampling(max_tokens=1)
    small = _seconds(lambda: sample(logits[:64], sampling, 0), _RUNS, timer)
    large = _seconds(lambda: sample(logits, sampling, 0), _RUNS, timer)
    return max(0.0, large - small) / _SAMPLED


def _seconds(work: Callable[[], object], runs: int, timer: Timer) -> float:
    work()  # the first run finds cold caches and sleeping threads
    times = []
    for _ in range(runs):
        began = timer()
        work()
        times.append(timer() - began)
    return statistics.median(times)

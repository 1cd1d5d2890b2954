"""`models fit` against the engine: predicted and measured time of a token, by model and format."""

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from harness import ROOT, wait_until_idle

from tokenworks.cli.measurements import last_level_bytes
from tokenworks.fleet.discover.machine import discover
from tokenworks.inference.calibration import calibrate
from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.native import NativeExecutor, choose_path
from tokenworks.inference.messages import Generate, Sampling
from tokenworks.inference.models.architectures.gemma3 import GEMMA3
from tokenworks.inference.models.architectures.llama import LLAMA
from tokenworks.inference.models.architectures.qwen2 import QWEN2
from tokenworks.inference.models.architectures.qwen3 import QWEN3
from tokenworks.inference.models.config import ModelConfig, expected_tensors
from tokenworks.inference.models.gguf_writer import EncodedTensor, write_gguf
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.packing import footprint_of
from tokenworks.inference.models.quantisation import ENCODED, quantise
from tokenworks.inference.models.random_model import config_metadata, tiny_config
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.prediction import Calibration, token_seconds
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.clock import MonotonicClock

sys.path.insert(0, str(ROOT / "tests"))
from blocks import random_blocks

PROMPT, TOKENS = 64, 48
TILE_ROWS = 256  # a matrix repeats so many random rows: what is in them makes no difference here


def _config(base: ModelConfig, **sizes: int) -> ModelConfig:
    head_dim = sizes["head_dim"]
    return replace(base, **sizes, rope_dim=head_dim, context_length=4096, windows=())  # type: ignore[arg-type]


# The shapes of models that people run, with random weights.
SHAPES = {
    "SmolLM2-360M": _config(
        tiny_config(LLAMA), layers=32, hidden=960, heads=15, kv_heads=5, head_dim=64,
        feed_forward=2560, vocabulary=49_152,
    ),
    "Qwen2.5-0.5B": _config(
        tiny_config(QWEN2), layers=24, hidden=896, heads=14, kv_heads=2, head_dim=64,
        feed_forward=4864, vocabulary=151_936,
    ),
    "Qwen3-0.6B": _config(
        tiny_config(QWEN3), layers=28, hidden=1024, heads=16, kv_heads=8, head_dim=128,
        feed_forward=3072, vocabulary=151_936,
    ),
    "Gemma3-270M": replace(
        _config(
            tiny_config(GEMMA3), layers=18, hidden=640, heads=4, kv_heads=1, head_dim=256,
            feed_forward=2048, vocabulary=262_144,
        ),
        windows=tuple(0 if layer % 6 == 5 else 512 for layer in range(18)),
    ),
    "Llama-3.2-1B": _config(
        tiny_config(LLAMA), layers=16, hidden=2048, heads=32, kv_heads=8, head_dim=64,
        feed_forward=8192, vocabulary=128_256,
    ),
}  # fmt: skip
PAIRS = (
    ("SmolLM2-360M", TensorType.Q4_1),
    ("SmolLM2-360M", TensorType.Q8_0),
    ("Qwen2.5-0.5B", TensorType.Q4_K),
    ("Qwen2.5-0.5B", TensorType.Q8_0),
    ("Qwen3-0.6B", TensorType.Q4_0),
    ("Qwen3-0.6B", TensorType.Q6_K),
    ("Gemma3-270M", TensorType.Q8_0),
    ("Llama-3.2-1B", TensorType.Q4_K),
)


@dataclass(frozen=True)
class Forecast:
    model: str
    format: str
    predicted_s: float
    measured_s: float

    @property
    def error(self) -> float:
        return abs(self.predicted_s - self.measured_s) / self.measured_s


def calibration(threads: int) -> Calibration:
    cache = last_level_bytes(discover())
    return calibrate(isa=choose_path("auto"), threads=threads, cache_bytes=cache)


def measure(model: str, type: TensorType, threads: int, calibrated: Calibration) -> Forecast:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_model(path, SHAPES[model], type)
        predicted = token_seconds(footprint_of(path), PROMPT + TOKENS // 2, calibrated)
        return Forecast(model, type.name, predicted, decode_seconds(path, threads))


def measure_file(path: Path, threads: int, calibrated: Calibration) -> Forecast:
    predicted = token_seconds(footprint_of(path), PROMPT + TOKENS // 2, calibrated)
    return Forecast(path.parent.name, "as shipped", predicted, decode_seconds(path, threads))


def write_model(path: Path, config: ModelConfig, type: TensorType) -> None:
    random = np.random.default_rng(0)
    tiles: dict[tuple[int, TensorType], np.ndarray] = {}

    def tile(inputs: int, stored: TensorType) -> np.ndarray:
        if (inputs, stored) not in tiles:
            shape, size = (TILE_ROWS, inputs), inputs**-0.5
            tiles[inputs, stored] = (
                quantise(random.normal(0, size, shape), stored)
                if stored in ENCODED
                else random_blocks(stored, shape, size, random)
            )
        return tiles[inputs, stored]

    tensors = []
    for name, shape, _ in expected_tensors(config):
        if len(shape) == 1:
            stored, raw = TensorType.F32, quantise(np.ones(shape), TensorType.F32)
        else:
            stored = type if shape[-1] % type.block_weights == 0 else TensorType.Q8_0
            raw = np.resize(tile(shape[-1], stored), stored.nbytes(shape))
        tensors.append(EncodedTensor(name, stored, shape, raw))
    write_gguf(path, config_metadata(config), tensors)


def decode_seconds(path: Path, threads: int) -> float:
    """Median seconds from one token of a lone answer to the next, in the engine."""
    settings = EngineSettings(
        model_path=str(path), model_id="bench", threads=threads, speculation="off"
    )
    executor = NativeExecutor(load_model(path), isa="auto", threads=threads, context_length=0)
    engine = Engine(executor, settings, MonotonicClock())
    sampling = Sampling(max_tokens=TOKENS + 1, temperature=0.0)
    engine.submit(Generate(request_id="1", prompt=list(range(1, PROMPT + 1)), sampling=sampling))
    wait_until_idle()
    engine.step()
    times = []
    while True:
        start = time.perf_counter()
        step = engine.step()
        if step is None:
            return statistics.median(times)
        times.append(time.perf_counter() - start)

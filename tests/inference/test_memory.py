"""What is said of memory before it is taken: the arithmetic, and against a process that took it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import resources
from tokenworks.errors import ConfigError
from tokenworks.inference.executors.native import choose_path
from tokenworks.inference.memory import (
    MemoryNeed,
    full_context_megabytes,
    most_kv_megabytes,
    native_need,
    reference_need,
)
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.packing import WIDE_PATHS
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.models.rounding import AS_STORED
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.settings import EngineSettings

LONG = replace(
    TINY_CONFIG, layers=8, hidden=256, heads=4, kv_heads=4, head_dim=64, rope_dim=64,
    feed_forward=1024, vocabulary=8000, context_length=8192,
)  # fmt: skip
SETTINGS = EngineSettings(
    model_path="", model_id="m", threads=2, max_sequences=1, kv_memory_mb=1024
)
SERVE = """
import json, sys
import msgspec
from tokenworks.inference.messages import Generate, Sampling
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.worker import open_engine

def memory():
    lines = open("/proc/self/status").read().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return [int(found[name].split()[0]) * 1024 for name in ("RssAnon", "VmRSS")]

settings = msgspec.json.decode(sys.stdin.read(), type=EngineSettings)
before = memory()
engine, ready = open_engine(settings)
prompt = [number * 7919 % 8000 for number in range(ready.context_length - 1)]
wanted = Generate(request_id="a", prompt=prompt, sampling=Sampling(max_tokens=1), score_prompt=True)
assert engine.submit(wanted) is None
while engine.busy:
    engine.step()
print(json.dumps([ready.pages_total, ready.context_length, before, memory()]))
"""


def need_of(path: Path, settings: EngineSettings) -> MemoryNeed:
    model = load_model(path)
    model.close()
    if settings.executor == "reference":
        return reference_need(model.tensors, model.config, settings)
    wide = choose_path("auto") in WIDE_PATHS
    return native_need(
        model.tensors, model.config, settings, formats=AS_STORED, threads=2, wide=wide
    )


@pytest.mark.skipif(not resources.HERE, reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("executor", "length", "kv_format"),
    [("native", 8192, "bf16"), ("native", 8192, "int8"), ("reference", 512, "bf16")],
)
def test_a_request_of_full_length_takes_what_was_said(
    tmp_path: Path, executor: str, length: int, kv_format: str
) -> None:
    path = tmp_path / "m.gguf"
    write_random_model(path, LONG, type=TensorType.Q4_0)
    changed = {"model_path": str(path), "executor": executor, "context_length": length}
    changed["kv_format"] = kv_format
    settings = msgspec.convert({**msgspec.to_builtins(SETTINGS), **changed}, EngineSettings)
    need = need_of(path, settings)

    done = subprocess.run(
        [sys.executable, "-c", SERVE],
        input=msgspec.json.encode(settings).decode(),
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    pages, served, before, after = json.loads(done.stdout)

    assert (pages * need.page_bytes, served) == (need.kv, length)
    said = need.weights + need.kv + need.buffers
    taken = after[0] - before[0]
    assert 0.65 * said < taken < 1.05 * said  # buffers are the most that any batch needs
    assert after[1] < need.total  # the file's pages too


def test_each_thread_has_room_for_the_few_rows_that_it_prepares_itself() -> None:
    wide = replace(LONG, feed_forward=28672)
    inputs = wide.hidden + wide.heads * wide.head_dim + wide.feed_forward

    few, many = (
        native_need({}, wide, SETTINGS, formats=AS_STORED, threads=threads, wide=False).buffers
        for threads in (2, 64)
    )

    assert many - few >= 62 * (16 * inputs * 5 + 2**19)  # floats are one buffer for all


@given(st.integers(0, 10**10), st.integers(1, 10**9), st.integers(1, 10**7))
def test_what_is_offered_as_kv_memory_fits_and_a_mebibyte_more_does_not(
    usable: int, beside: int, page_bytes: int
) -> None:
    need = MemoryNeed(
        weights=beside, kv=10**12, buffers=0, program=0, page_bytes=page_bytes,
        kv_tokens=10**6, context_length=10**6,
    )  # fmt: skip

    most = most_kv_megabytes(need, usable)

    if most:
        assert 2 * page_bytes <= most * 2**20 + 2**20
        assert beside + most * 2**20 <= usable < beside + (most + 1) * 2**20
    else:
        assert usable - beside < max(2**20, 2 * page_bytes)


def test_the_kv_memory_that_is_named_holds_the_whole_context(tmp_path: Path) -> None:
    write_random_model(tmp_path / "m.gguf", LONG, type=TensorType.Q4_0)
    small = need_of(tmp_path / "m.gguf", msgspec.structs.replace(SETTINGS, kv_memory_mb=10))
    assert small.kv_tokens < small.context_length == 8192

    wanted = full_context_megabytes(small)

    for megabytes, holds in ((wanted, True), (wanted - 1, False)):
        settings = msgspec.structs.replace(SETTINGS, kv_memory_mb=megabytes)
        assert (need_of(tmp_path / "m.gguf", settings).kv_tokens >= 8192) == holds


def test_a_context_beyond_the_models_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    write_random_model(tmp_path / "m.gguf", LONG, type=TensorType.Q4_0)

    with pytest.raises(ConfigError, match="context_length 9000 is more than the 8192"):
        need_of(tmp_path / "m.gguf", msgspec.structs.replace(SETTINGS, context_length=9000))

"""Engines beside each other on the same processors: none starves, none makes the others stand."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model

SECONDS = 1.0
ENGINE = """
import os, sys, time
import numpy as np
from pathlib import Path
from tokenworks.inference.executors.base import Batch, Span
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.models.model import load_model

path, threads, processors, seconds = sys.argv[1:]
os.sched_setaffinity(0, map(int, processors.split(",")))
model, options = load_model(Path(path)), {"isa": "auto", "context_length": 0}
executor = NativeExecutor(model, threads=int(threads), **options)
executor.allocate(1)
row = np.zeros(1, np.int32)
batch = Batch(tokens=row, spans=(Span(start=0, length=1, pages=row),), logit_rows=row)
executor.forward(batch)
print("ready", flush=True)
sys.stdin.readline()
done, until = 0, time.monotonic() + float(seconds)
while time.monotonic() < until:
    executor.forward(batch)
    done += 1
print(done)
"""

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen here"
)


@pytest.fixture(scope="module")
def deep_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Next to no work between barriers: threads that wait wrongly show the most."""
    path = tmp_path_factory.mktemp("deep") / "deep.gguf"
    write_random_model(path, replace(TINY_CONFIG, layers=24))
    return path


def forwards(model: Path, engines: int, threads: int, processors: list[int]) -> list[int]:
    """How many forwards each engine ran in the same second."""
    numbers = ",".join(map(str, processors))
    command = [sys.executable, "-c", ENGINE, str(model), str(threads), numbers, str(SECONDS)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(engines)
    ]
    try:
        for engine in started:
            assert engine.stdout is not None
            assert engine.stdout.readline() == "ready\n"
        for engine in started:
            assert engine.stdin is not None
            engine.stdin.write("\n")
            engine.stdin.flush()
        return [int(engine.communicate(timeout=60)[0]) for engine in started]
    finally:
        for engine in started:
            engine.kill()
            engine.communicate()


@pytest.mark.parametrize("processors", [1, 2])
def test_engines_that_share_processors_all_make_progress(processors: int, deep_model: Path) -> None:
    """Two engines of two threads each: together at least a third of what one does that has the
    same processors to itself, and neither less than a third of its share of that."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < processors:
        pytest.skip("this machine has one processor")
    chosen = usable[:processors]
    alone = beside = []
    for _ in range(3):  # other programs' bursts are no fault of the engines
        alone = forwards(deep_model, 1, 2, chosen)
        beside = forwards(deep_model, 2, 2, chosen)
        if sum(beside) > alone[0] / 3 and min(beside) > sum(beside) / 6:
            return
    pytest.fail(f"{alone} forwards alone, {beside} beside each other")

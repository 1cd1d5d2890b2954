"""How fast a file in the page cache becomes weights that compute, and the memory that takes."""

import json
import mmap
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fitting import SHAPES, write_model
from harness import summary, wait_until_idle

from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.packing import footprint_of
from tokenworks.inference.models.tensors import TensorType


@dataclass(frozen=True)
class Loaded:
    """Each figure of every round; memory is what is resident, pages of the file included."""

    seconds: list[float]
    shares: list[float]
    file_gb: float

    @property
    def seconds_per_gb(self) -> float:
        return summary(self.seconds)["median"] / self.file_gb

    @property
    def peak_over_final(self) -> float:
        return max(self.shares)

    def record(self) -> dict[str, object]:
        return {
            "file_gb": self.file_gb,
            "seconds": summary(self.seconds),
            "peak_over_final": summary(self.shares),
        }


def measure(type: TensorType, megabytes: int, rounds: int, threads: int) -> Loaded:
    """A model of about that size with matrices of this type, loaded in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_model(path, _config(type, megabytes * 10**6), type)
        runs = []
        for _ in range(rounds):
            wait_until_idle()
            command = [sys.executable, __file__, str(path), str(threads)]
            runs.append(json.loads(subprocess.check_output(command)))
        return Loaded(
            [run["seconds"] for run in runs],
            [run["peak"] / run["final"] for run in runs],
            path.stat().st_size / 1e9,
        )


def _config(type: TensorType, file_bytes: int) -> ModelConfig:
    """A model of ordinary proportions, with as many layers as make the file about that large."""
    shape = replace(SHAPES["Llama-3.2-1B"], vocabulary=32_768, context_length=512)
    weights = file_bytes * type.block_weights // type.block_bytes
    attention = 2 * shape.hidden * shape.head_dim * (shape.heads + shape.kv_heads)
    layer = attention + 3 * shape.hidden * shape.feed_forward
    return replace(shape, layers=max(1, (weights - shape.vocabulary * shape.hidden) // layer))


def _load(path: Path, threads: int) -> dict[str, float]:
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass  # now it is in the page cache
    _touch_memory(footprint_of(path).packed_bytes)
    began = time.perf_counter()
    executor = NativeExecutor(load_model(path), isa="auto", threads=threads, context_length=0)
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text().split()
    peak, final = (int(status[status.index(key) + 1]) for key in ("VmHWM:", "VmRSS:"))
    assert executor.weight_bytes < 1024 * final
    return {"seconds": seconds, "peak": peak, "final": final}


def _touch_memory(size: int) -> None:
    """A virtual machine gives its host back what it does not use. To have it again takes 2 s of a
    processor per GB on some, whoever asks: that is the machine's time and not the loader's."""
    memory = np.empty(size, np.uint8)
    memory[:: mmap.PAGESIZE] = 1
    del memory
    Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory starts here


if __name__ == "__main__":
    print(json.dumps(_load(Path(sys.argv[1]), int(sys.argv[2]))))

"""Whether an installed wheel computes: a random model's forward on every path of this processor.

Run with the Python that the wheel is installed in. Ends with an error where the kernels do not
load or differ from plain numpy.
"""

import tempfile
from pathlib import Path

import numpy as np

import tokenworks
from tokenworks.inference.executors.base import Batch, Executor, Span
from tokenworks.inference.executors.native import NativeExecutor, supported_paths
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.random_model import write_random_model
from tokenworks.inference.models.tensors import TensorType

TOKENS = np.arange(20, dtype=np.int32)
TOLERANCE = 0.15  # of the logits' spread: activations have 8 bits there and 32 here


def logits_of(executor: Executor) -> np.ndarray:
    executor.allocate(2)
    span = Span(start=0, length=len(TOKENS), pages=np.array([1, 0], np.int32))
    return executor.forward(Batch(tokens=TOKENS, spans=[span], logit_rows=TOKENS)).copy()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.gguf"
        write_random_model(path, type=TensorType.Q4_0, embedding_type=TensorType.Q8_0)
        model = load_model(path)
        wanted = logits_of(ReferenceExecutor(model, context_length=0))
        for isa in supported_paths():
            found = logits_of(NativeExecutor(model, isa=isa, threads=2, context_length=0))
            error = float(np.abs(found - wanted).max() / wanted.std())
            assert error < TOLERANCE, f"{isa} is off by {error:.3f} deviations"
            print(f"{isa}: right, within {error:.3f} deviations")
    print(f"tokenworks {tokenworks.__version__} computes")


if __name__ == "__main__":
    main()

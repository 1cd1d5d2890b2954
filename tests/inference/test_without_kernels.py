"""An installation whose kernels cannot be loaded still answers, by plain numpy."""

import json
import subprocess
import sys
from pathlib import Path

from tokenworks.inference.messages import Generate, Sampling
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.worker import open_engine

SETTINGS = {"model_id": "m", "threads": 1, "kv_memory_mb": 16, "max_sequences": 4}
REQUESTS = [
    Generate(
        request_id=str(number),
        prompt=[5, 6, 7, 8] * 4,
        sampling=Sampling(max_tokens=24, seed=number, temperature=temperature, top_p=top_p),
    )
    for number, (temperature, top_p) in enumerate([(0.0, 1.0), (0.8, 1.0), (0.8, 0.9)])
]
PROGRAM = """
import json, sys
sys.modules["tokenworks.inference._kernels"] = None
sys.path.insert(0, {tests!r})
import tokenworks.gateway.engine  # all that a server needs
from test_without_kernels import answers
print(json.dumps(answers({path!r}, "auto")))
"""


def answers(path: str, executor: str) -> dict[str, list[int]]:
    settings = EngineSettings(model_path=path, executor=executor, **SETTINGS)  # type: ignore[arg-type]
    engine, _ = open_engine(settings)
    for request in REQUESTS:
        assert engine.submit(request) is None
    received: dict[str, list[int]] = {request.request_id: [] for request in REQUESTS}
    while step := engine.step():
        for token in step.tokens:
            received[token.request_id].append(token.token)
    return received


def test_a_worker_without_kernels_gives_the_answers_of_the_numpy_executor(tiny_model: Path) -> None:
    program = PROGRAM.format(tests=str(Path(__file__).parent), path=str(tiny_model))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == answers(str(tiny_model), "reference")

"""The peer: OpenVINO GenAI, from its wheels, in an environment of its own."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import PEERS

import llamacpp

VERSION = "2026.4.1.0"
PYTHON = PEERS / "openvino" / "bin" / "python"
SCRIPT = Path(__file__).with_name("openvino_run.py")
WAYS = ("as it comes", "KV f16", "compute f32", "compute f32, KV f16")
"""Its settings that made a difference on some processor; of those that made none:
DYNAMIC_QUANTIZATION_GROUP_SIZE (0, 32, 64) and ATTENTION_BACKEND (SDPA: slower prompts)."""
_PROPERTIES = {
    "KV f16": {"KV_CACHE_PRECISION": "f16"},
    "compute f32": {"INFERENCE_PRECISION_HINT": "f32"},
}


def install() -> None:
    """Install into `.peers`; nothing if it is there."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS / "openvino"], check=True)
    package = f"openvino-genai=={VERSION}"
    subprocess.run([PYTHON, "-m", "pip", "install", "-q", package], check=True)


def installed() -> bool:
    return PYTHON.exists()


@dataclass
class Peer:
    """OpenVINO GenAI on a GGUF file: a process that loads when first asked, until `close`."""

    model: Path
    threads: int
    way: str = WAYS[0]
    _process: subprocess.Popen[str] | None = field(default=None, init=False, repr=False)

    @property
    def name(self) -> str:
        way = "" if self.way == WAYS[0] else f", {self.way}"
        return f"OpenVINO {llamacpp.encoding(self.model)}{way}"

    def decode_tps(self, tokens: int, context: int = 0) -> float:
        return float(self._ask("decode", 1, max(1, context), tokens))

    def prefill_tps(self, tokens: int) -> float:
        return float(self._ask("prefill", 1, tokens, 2))

    def batch_tps(self, sequences: int, prompt: int, tokens: int) -> float:
        return float(self._ask("batch", sequences, prompt, tokens))

    def text(self) -> str:
        """What it answers to a plain question: a peer that answers nonsense does not count."""
        return str(self._ask("text", 1, 0, 24))

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin
            self._process.stdin.close()
            self._process.wait(timeout=60)
            self._process = None

    def _ask(self, what: str, *numbers: int) -> Any:
        process = self._running()
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps([what, *numbers]) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        sys.exit(f"error: {self.name} ended with code {process.wait()}")

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            properties = {"INFERENCE_NUM_THREADS": self.threads}
            for part in self.way.split(", "):
                properties |= _PROPERTIES.get(part, {})
            command = [PYTHON, SCRIPT, self.model, json.dumps(properties)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._process = subprocess.Popen(
                list(map(str, command)), **pipes, stderr=subprocess.DEVNULL, text=True, cwd=PEERS
            )
        return self._process

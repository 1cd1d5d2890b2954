"""The peer: OpenVINO GenAI, from its wheels, in an environment of its own."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import llamacpp
from harness import PEERS

VERSION = "2026.4.1.0"
PYTHON = PEERS / "openvino" / "bin" / "python"
SCRIPT = Path(__file__).with_name("openvino_run.py")


def install() -> None:
    """Install into `.peers`; nothing if it is there."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS / "openvino"], check=True)
    package = f"openvino-genai=={VERSION}"
    subprocess.run([PYTHON, "-m", "pip", "install", "-q", package], check=True)


def installed() -> bool:
    return PYTHON.exists()


@dataclass(frozen=True, slots=True)
class Peer:
    """OpenVINO GenAI on a GGUF file."""

    model: Path
    threads: int

    @property
    def name(self) -> str:
        return f"OpenVINO {llamacpp.encoding(self.model)}"

    def decode_tps(self, tokens: int) -> float:
        return float(self._run("decode", 1, 1, tokens)["tokens_per_s"])

    def prefill_tps(self, tokens: int) -> float:
        return float(self._run("prefill", 1, tokens, 1)["tokens_per_s"])

    def batch_tps(self, sequences: int, prompt: int, tokens: int) -> float:
        return float(self._run("batch", sequences, prompt, tokens)["tokens_per_s"])

    def text(self) -> str:
        """What it answers to a plain question: a peer that answers nonsense does not count."""
        return str(self._run("text", 1, 0, 24)["text"])

    def _run(self, what: str, sequences: int, prompt: int, tokens: int) -> dict[str, str]:
        numbers = map(str, (self.threads, sequences, prompt, tokens))
        printed = llamacpp.run([PYTHON, SCRIPT, self.model, what, *numbers])
        return dict(json.loads(printed.splitlines()[-1]))

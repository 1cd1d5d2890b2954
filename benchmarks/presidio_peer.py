"""The peer: Presidio's analyser, from its wheels, in an environment of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from harness import PEERS

VERSION = "2.2.366"
PYTHON = PEERS / "presidio" / "bin" / "python"
SCRIPT = Path(__file__).with_name("presidio_run.py")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Row = tuple[str, int, int, float]
"""A finding: type, start, end, score."""


def install() -> None:
    """Install into `.peers`; nothing if it is there."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS / "presidio"], check=True)
    package = f"presidio-analyzer=={VERSION}"
    subprocess.run([PYTHON, "-m", "pip", "install", "-q", package], check=True)


def installed() -> bool:
    return PYTHON.exists()


class Presidio:
    """A process that has loaded its recognisers, until the block ends."""

    def __enter__(self) -> "Presidio":
        self._process = subprocess.Popen(
            [PYTHON, SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=60)

    def find(
        self, texts: Sequence[str], entities: Sequence[str] | None = None
    ) -> tuple[float, list[list[Row]]]:
        """Milliseconds that it took by its own clock, and what it found in each text."""
        assert self._process.stdin
        assert self._process.stdout
        asked = {"texts": texts, "entities": entities}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("answer "):
                took_ms, rows = json.loads(line.removeprefix("answer "))
                return took_ms, [[tuple(row) for row in each] for each in rows]
        sys.exit(f"error: Presidio ended with code {self._process.wait()}")

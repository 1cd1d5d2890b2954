"""Building and running commands as those who make and install releases do."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD_SECONDS = 400
PINS = str(ROOT / "constraints.txt")


def run(*command: str | Path, **environment: str) -> str:
    """What the command printed; its failure is ours."""
    answer = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        env={**os.environ, **environment},
        check=False,
    )
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    return answer.stdout


def build(folder: Path, *arguments: str | Path, **environment: str) -> None:
    """Build sdist and wheel into `folder` as `make wheel` does."""
    run(
        *(sys.executable, "-m", "build", "--outdir", folder, *arguments, ROOT),
        PIP_CONSTRAINT=PINS,
        PIP_BUILD_CONSTRAINT=PINS,
        **environment,
    )

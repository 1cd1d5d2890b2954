"""Waits of chats beside long prompts."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PROGRAM = """
from http_load import Answer
from mixed import Waits

waits = Waits()
waits.add([Answer(asked=1.0, pieces=[1.5, 1.5005])])
assert waits.p99 == (0.5, 0.0)
assert waits.record()["gap_p99_s"] == 0.0
"""


def test_answers_that_came_all_at_once_have_no_gaps_and_are_recorded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=BENCHMARKS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

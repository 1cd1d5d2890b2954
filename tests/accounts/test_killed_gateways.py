"""Real gateway processes race for budgets and are killed with kill -9: nothing is overspent.

`make soak AREA=accounts` runs the benchmark's whole length, `make test` a tenth.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "gateway_budgets.py"
ROUNDS = 200 if os.environ.get("TOKENWORKS_SOAK") == "1" else 20


@pytest.mark.timeout(600)
def test_nobody_overspends_by_a_race_or_a_kill_and_the_ledger_has_each_request_once() -> None:
    command = [sys.executable, str(BENCHMARK), "--rounds", str(ROUNDS), "--racing", "100"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=590)

    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["budget_overruns"] == 0, run.stderr
    assert found["rounds"] == ROUNDS
    # It was a race for too little, in which processes died with requests on their way.
    assert found["killed"] >= ROUNDS / 2
    assert found["refused"] >= ROUNDS
    assert found["lost"] >= ROUNDS
    assert found["paid"] >= 20 * ROUNDS

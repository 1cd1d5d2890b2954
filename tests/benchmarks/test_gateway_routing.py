"""The router's benchmark: what is held back decides nothing."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PROGRAM = """
import sys
from dataclasses import replace

import numpy as np

sys.path.append("../tests")
from gateway_routing import SPLITS, measure, splits
from judged_prompts import noise

pairs = noise(120, 0, weak=0.5, strong=0.9)
parts = splits(120, 0)
assert len(parts) == SPLITS
assert sorted(np.concatenate([held for _, held in parts])) == list(range(120))
for known, held in parts:
    assert not set(known) & set(held)
    assert len(known) + len(held) == 120

known, held = parts[0]
other = {name: getattr(pairs, name).copy() for name in ("weak", "strong")}
for name, scores in other.items():
    scores[held] = 1 - scores[held]
told = [measure(one, known, held) for one in (pairs, replace(pairs, **other))]
shares = [{name: at["share"] for name, at in one["curve"].items()} for one in told]
assert shares[0] == shares[1], shares
for name in ("weak", "strong"):
    assert (told[0][name][0] == told[1][name][0]).all()
# And what is known decides it.
for name, scores in other.items():
    scores[known] = 1 - scores[known]
swapped = replace(pairs, weak=other["strong"], strong=other["weak"])
assert {n: a["share"] for n, a in measure(swapped, known, held)["curve"].items()} != shares[0]
"""


def test_scores_that_are_held_back_change_no_decision() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=BENCHMARKS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

"""The benchmark of serving runs from end to end with our server alone, and counts right."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from factory_process import surroundings
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.text.tiny_vocabulary import tiny_vocabulary

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RECORD = BENCHMARKS / "results" / "serving.json"


@pytest.fixture(scope="module")
def repeats() -> ModuleType:
    spec = importlib.util.spec_from_file_location("repeats", BENCHMARKS / "repeats.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_model`, with room for the workloads' prompts."""
    path = tmp_path_factory.mktemp("served") / "served.gguf"
    vocabulary = tiny_vocabulary()
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    config = replace(TINY_CONFIG, vocabulary=len(tokens), context_length=4096, tied_embedding=False)
    write_random_model(path, config, metadata=vocabulary)
    return path


def benchmark(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BENCHMARKS / "serving.py", "--trial", "--rounds", "1", *options],
        capture_output=True,
        text=True,
        timeout=220,
        env=surroundings(home),
        cwd=home,
        check=False,
    )


def commands() -> list[str]:
    """What all processes of this machine were started with."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(place.read_text(errors="replace"))
        except OSError:  # it has just ended
            continue
    return found


@pytest.mark.timeout(240)
def test_a_trial_measures_our_server_in_every_part_and_leaves_nothing_behind(
    model: Path, tmp_path: Path
) -> None:
    before = RECORD.read_bytes() if RECORD.exists() else None
    done = benchmark(tmp_path, "--alone", "--samples", "--model", str(model))

    assert done.returncode == 0, done.stderr
    keys = json.loads(done.stdout.splitlines()[-1])
    assert keys.keys() == {
        "prefix_recompute_fraction",
        "exactness_failures",
        "naive_served_ratio",
        "speculation_worst_ratio",
        "speculation_geomean_ratio",
    }, "ratios need a peer"
    assert keys["exactness_failures"] == 0
    assert 0 <= keys["prefix_recompute_fraction"] < 0.5
    assert keys["naive_served_ratio"] > 0
    for workload in ("unique_short", "shared_prefix_staggered", "multi_turn", "agent_loop", "edit"):
        assert workload in done.stdout
    assert (RECORD.read_bytes() if RECORD.exists() else None) == before, "a trial keeps no record"
    assert not [command for command in commands() if str(model) in command], "a server still runs"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--alone", "--data", "nowhere"), "HumanEval.jsonl.gz is missing"),
        (("--alone", "--samples", "--shard", "5/4"), "may be: 1/4, 2/4, 3/4, 4/4"),
    ],
)
def test_what_was_asked_wrongly_is_said_with_a_hint(
    options: tuple[str, ...], problem: str, model: Path, tmp_path: Path
) -> None:
    done = benchmark(tmp_path, *options, "--model", str(model))

    assert done.returncode != 0
    assert problem in done.stderr
    assert "hint: " in done.stderr


def test_repeats_are_counted_within_one_output(repeats: ModuleType) -> None:
    loop, plain = [1, 2] * 8, list(range(16))

    assert repeats.repeated_share([plain]) == 0
    assert repeats.repeated_share([plain, plain]) == 0, "two outputs may be alike"
    assert repeats.repeated_share([loop]) == 7 / 9  # of 9 places, the first two are new
    assert repeats.repeated_share([loop, plain]) == 7 / 18
    assert repeats.repeated_share([[1, 2, 3]]) == 0, "too short for a single one"


def test_a_prompt_can_reuse_the_longest_beginning_that_came_before(repeats: ModuleType) -> None:
    prompts = [[1, 2, 3, 4], [1, 2, 9, 4], [2, 3, 4], [1, 2, 9, 4, 5], [1, 2, 3, 4]]

    # Of a prompt that came before as a whole, the last token has to be computed all the same.
    assert list(repeats.reusable(prompts)) == [0, 2, 0, 4, 3]

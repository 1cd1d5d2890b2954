import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from factory_process import running_factory, surroundings

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGEST_LINES = 60


@pytest.fixture(scope="module")
def factory(endless_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_factory(tmp_path_factory.mktemp("home"), "--model", str(endless_model)) as address:
        yield address


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_runs_against_a_real_factory(
    example: Path, factory: str, tmp_path: Path
) -> None:
    answer = subprocess.run(
        [sys.executable, str(example), factory],
        capture_output=True,
        text=True,
        timeout=60,
        env=surroundings(tmp_path),
        check=False,
    )

    assert len(example.read_text().splitlines()) <= LONGEST_LINES
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"[1-9]\d* tokens|tokens: [1-9]", answer.stdout), answer.stdout
    assert answer.stderr == ""


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3

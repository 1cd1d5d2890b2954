import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_texts_are_up_to_date(generate: ModuleType) -> None:
    for path, text in generate.generated().items():
        assert path.read_text() == text, f"run docs/generate.py: {path.name} is out of date"


def test_every_setting_says_what_it_means(generate: ModuleType) -> None:
    rows = [row for row in generate.settings_reference().splitlines() if row.startswith("| `")]

    assert len(rows) > 10
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_measured_table_comes_from_result_files_or_is_absent(
    generate: ModuleType, tmp_path: Path
) -> None:
    readme = f"before\n{generate.BEGIN}\nstale\n{generate.END}\nafter\n"
    words = ("Measured", "what", "value", "command", "on")

    absent = generate.with_measured(readme, words, tmp_path)

    assert absent == f"before\n{generate.BEGIN}\n{generate.END}\nafter\n"

    place = {"cpu": "Some CPU", "cores": 2, "commit": "01234567"}
    record = {"environment": place, "keys": {"ratio": 1.234}, "details": {}}
    (tmp_path / "inference.json").write_text(json.dumps(record))
    present = generate.with_measured(absent, words, tmp_path)

    where = "Some CPU, 2 cores, commit `01234567`"
    assert f"| `ratio` | 1.234 | `make bench AREA=inference` | {where} |" in present
    assert generate.with_measured(present, words, tmp_path) == present

"""`tokenworks devices` and `tokenworks models fit`, as a person runs them on this machine."""

import json
from pathlib import Path

from factory_process import tokenworks


def test_devices_measures_once_and_remembers(tmp_path: Path) -> None:
    first = tokenworks("devices", "--json", home=tmp_path)
    kept = list((tmp_path / "measurements").glob("*.json"))
    again = tokenworks("devices", "--json", home=tmp_path)

    assert first.returncode == again.returncode == 0, first.stderr
    assert "measuring" in first.stderr
    assert again.stderr == ""
    assert len(kept) == 1
    said, later = json.loads(first.stdout), json.loads(again.stdout)
    assert said["measured"] == later["measured"]
    assert said["processors"]["usable_cores"] >= 1
    assert said["memory"]["total"] > 2**28
    assert said["kernel_paths"]
    assert said["measured"]["kernels"]["path"] == said["kernel_paths"][0]


def test_fit_tells_of_a_model_that_is_not_here_and_of_a_file(
    tiny_model: Path, tmp_path: Path
) -> None:
    known = tokenworks("models", "fit", "smollm2", "--json", home=tmp_path)
    assert known.returncode == 0, known.stderr
    said = json.loads(known.stdout)
    assert (said["id"], said["pulled"]) == ("smollm2-135m-instruct", False)
    assert said["download_bytes"] > 0
    assert [row["tokens"] for row in said["contexts"]] == [2048, 8192]
    assert all(row["tokens_per_second"] > 0 for row in said["contexts"])
    assert said["efficiency"] == said["weight_rate"] / said["read_rate"]
    assert not (tmp_path / "models" / "smollm2-135m-instruct").exists()

    shown = tokenworks("models", "fit", f"file:{tiny_model}", home=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "1,024" in shown.stdout
    assert "tokens/s" in shown.stdout
    table = tokenworks("devices", home=tmp_path)
    assert "accelerators" in table.stdout
    assert table.returncode == 0


def test_fit_of_an_unknown_model_is_an_error_before_anything_is_measured(tmp_path: Path) -> None:
    answer = tokenworks("models", "fit", "no-such-model", home=tmp_path)

    assert answer.returncode == 1
    assert answer.stderr.startswith("error: There is no model 'no-such-model'")
    assert not (tmp_path / "measurements").exists()


def test_a_torn_measurement_is_taken_again(tmp_path: Path) -> None:
    assert tokenworks("devices", home=tmp_path).returncode == 0
    (kept,) = (tmp_path / "measurements").glob("*.json")
    kept.write_text("{torn")

    answer = tokenworks("devices", "--json", home=tmp_path)

    assert answer.returncode == 0
    assert json.loads(kept.read_text())["version"]

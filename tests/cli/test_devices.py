"""`tokenworks devices` and `tokenworks models fit`, as a person runs them on this machine."""

import json
import shutil
from pathlib import Path

import pytest

from factory_process import tokenworks
from hub_server import HubModel, running_hub
from model_folders import names_below, write_folder


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in which this machine's measurements are kept."""
    home = tmp_path_factory.mktemp("home")
    first = tokenworks("devices", home=home)
    assert first.returncode == 0, first.stderr
    assert "measuring this machine" in first.stderr
    assert "accelerators" in first.stdout
    return home


@pytest.fixture
def home(measured: Path, tmp_path: Path) -> Path:
    """A copy of it, for one test."""
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_devices_remembers_what_it_measured(home: Path) -> None:
    (kept,) = (home / "measurements").glob("*.json")
    again = tokenworks("devices", "--json", home=home)

    assert again.returncode == 0
    assert again.stderr == ""
    said = json.loads(again.stdout)
    assert said["measured"] == json.loads(kept.read_text())
    assert said["processors"]["usable_cores"] >= 1
    assert said["memory"]["total"] > 2**28
    assert said["measured"]["kernels"]["path"] == said["kernel_paths"][0]


def test_fit_tells_of_a_model_that_is_not_here(home: Path) -> None:
    known = tokenworks("models", "fit", "smollm2", "--json", home=home)

    assert known.returncode == 0, known.stderr
    said = json.loads(known.stdout)
    assert (said["id"], said["pulled"]) == ("smollm2-135m-instruct", False)
    assert said["download_bytes"] > 0
    assert [row["tokens"] for row in said["contexts"]] == [64, 2048, 8192]
    assert all(row["tokens_per_second"] > 0 for row in said["contexts"])
    assert said["efficiency"] == said["weight_rate"] / said["read_rate"]
    assert not (home / "models" / "smollm2-135m-instruct").exists()


def test_fit_reads_a_file_and_is_shown_as_a_table(tiny_model: Path, home: Path) -> None:
    shown = tokenworks("models", "fit", f"file:{tiny_model}", home=home)

    assert shown.returncode == 0, shown.stderr
    assert "1,024" in shown.stdout
    assert "tokens/s" in shown.stdout


def test_fit_counts_keys_and_values_in_the_format_they_are_kept_in(
    tiny_model: Path, home: Path
) -> None:
    plain = tokenworks("models", "fit", str(tiny_model), "--json", home=home)
    (home / "tokenworks.toml").write_text('[engine]\nkv_format = "int8"\n')

    coded = tokenworks("models", "fit", str(tiny_model), "--json", home=home)

    assert "measuring this machine" in coded.stderr  # which reads them at another rate
    one, other = json.loads(plain.stdout), json.loads(coded.stdout)
    assert (one["kv_format"], other["kv_format"]) == ("bf16", "int8")
    assert other["kv_bytes_per_token"] < 0.6 * one["kv_bytes_per_token"]
    for long, short in zip(one["contexts"], other["contexts"], strict=True):
        assert short["needed_bytes"] - long["needed_bytes"] == short["kv_bytes"] - long["kv_bytes"]


def test_fit_tells_of_a_model_of_the_hub_that_is_not_here(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "made", shards=2)
    with running_hub() as hub:
        hub.models["o/Tiny"] = HubModel(
            {name: (folder / name).read_bytes() for name in names_below(folder)}
        )
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        answer = tokenworks("models", "fit", "hf:o/Tiny", "--json", home=home)

    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout)
    assert (said["id"], said["pulled"]) == ("tiny", False)
    assert said["download_bytes"] > 90_000
    here = json.loads(tokenworks("models", "fit", str(folder), "--json", home=home).stdout)
    assert here["pulled"] is True
    for key in ("file_bytes", "packed_bytes", "kv_bytes_per_token"):
        assert said[key] == here[key]


def test_fit_of_an_unknown_model_is_an_error_before_anything_is_measured(tmp_path: Path) -> None:
    answer = tokenworks("models", "fit", "no-such-model", home=tmp_path)

    assert answer.returncode == 1
    assert answer.stderr.startswith("error: There is no model 'no-such-model'")
    assert not (tmp_path / "measurements").exists()


def test_a_torn_measurement_is_taken_again(tiny_model: Path, home: Path) -> None:
    (kept,) = (home / "measurements").glob("*.json")
    kept.write_text("{torn")

    answer = tokenworks("models", "fit", str(tiny_model), "--json", home=home)

    assert answer.returncode == 0
    assert json.loads(kept.read_text())["version"]

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from factory_process import surroundings, tokenworks
from model_folders import write_folder
from tokenworks.cli.doctor import Check, examine
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model


def checks(*arguments: str, home: Path) -> tuple[int, dict[str, Check]]:
    answer = tokenworks("doctor", "--json", *arguments, home=home)
    return answer.returncode, {item["name"]: Check(**item) for item in json.loads(answer.stdout)}


def test_a_machine_that_can_start_has_no_problem(tiny_model: Path, tmp_path: Path) -> None:
    code, found = checks("--model", str(tiny_model), "--port", "0", home=tmp_path)

    assert code == 0
    assert {check.state for check in found.values()} <= {"ok", "note"}
    assert found["model"].detail == str(tiny_model)
    assert found["state folder"].detail == str(tmp_path)


def test_lines_of_one_check_stand_below_each_other(tmp_path: Path) -> None:
    (tmp_path / "tokenworks.toml").write_text("[engine]\nkv_memory_mb = 1\n")
    write_random_model(tmp_path / "m.gguf", replace(TINY_CONFIG, context_length=9000))

    said = tokenworks("doctor", "--model", "m.gguf", "--port", "0", home=tmp_path).stdout

    lines = said.splitlines()
    number = next(i for i, line in enumerate(lines) if "no request can have more" in line)
    place = lines[number - 1].index("up to")
    assert lines[number].index("no request") == place


def test_a_taken_port_is_a_problem_with_a_way_out(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, found = checks("--port", str(other.getsockname()[1]), home=tmp_path)

    assert code == 1
    assert found["address"].state == "problem"
    assert "--port 0" in (found["address"].hint or "")


def test_an_address_may_be_written_in_brackets(tmp_path: Path) -> None:
    (tmp_path / "tokenworks.toml").write_text("[server]\nhost = '[::1]'\nport = 0\n")
    _, found = checks(home=tmp_path)

    assert found["address"].state == "ok"


def test_a_model_that_is_not_here_is_only_noted(tmp_path: Path) -> None:
    code, found = checks("--port", "0", home=tmp_path)

    assert code == 0
    assert found["model"].state == "note"
    assert found["model"].hint == "tokenworks models pull smollm2-135m-instruct"


def test_a_source_that_is_not_here_is_only_noted(tmp_path: Path) -> None:
    _, found = checks("--model", "hf:owner/model", "--port", "0", home=tmp_path)

    assert found["model"].state == "note"
    assert found["model"].hint == "tokenworks models pull 'hf:owner/model'"


def test_a_pulled_file_that_changed_is_a_problem(tiny_model: Path, tmp_path: Path) -> None:
    pulled = tokenworks("models", "pull", f"file:{tiny_model}", home=tmp_path)
    path = Path(pulled.stdout.strip())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)

    code, found = checks("--model", "tiny", "--port", "0", home=tmp_path)

    assert code == 1
    assert "checksum" in found["model"].detail


def test_bad_settings_are_a_problem_and_the_rest_is_still_checked(tmp_path: Path) -> None:
    (tmp_path / "tokenworks.toml").write_text("[server]\nprot = 1\n")
    code, found = checks(home=tmp_path)

    assert code == 1
    assert found["settings"].hint == "did you mean 'server.port'?"
    assert found["package index"].state == "ok"


def test_credentials_of_the_index_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:verysecret@127.0.0.1/simple")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:verysecret@127.0.0.1:1")
    for name, text in surroundings(tmp_path).items():
        monkeypatch.setenv(name, text)

    shown = "".join(check.detail for check in examine({"server.port": 0}, None))

    assert "verysecret" not in shown
    assert "https://***@127.0.0.1/simple" in shown
    assert "http://***@127.0.0.1:1" in shown


def test_a_model_without_a_tokenizer_is_a_problem(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    (folder / "tokenizer.json").unlink()

    code, found = checks("--model", str(folder), "--port", "0", home=tmp_path)

    assert code == 1
    assert found["model"].detail == f"Model folder '{folder}' has no tokenizer"

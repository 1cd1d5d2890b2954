import json
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from factory_process import tokenworks
from tokenworks import __version__
from tokenworks.cli import app
from tokenworks.cli.masking import mask
from tokenworks.cli.up import welcome
from tokenworks.config import every_setting
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.models.records import Record, write_record
from tokenworks.server.settings import ServerSettings
from tokenworks.store.home import Home

FROZEN = Path(__file__).with_name("frozen.txt")


def names(command: object, path: str = "tokenworks") -> list[str]:
    """Every command with its arguments and options, one a line."""
    parts = sorted(
        part.name if part.param_type_name == "argument" else "/".join(part.opts)
        for part in command.params
        if part.name not in ("install_completion", "show_completion")
    )
    lines = [" ".join([path, *parts])]
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        lines += names(inner, f"{path} {name}")
    return lines


def test_the_command_line_is_what_scripts_rely_on() -> None:
    now = "\n".join(names(get_command(app))) + "\n"

    assert now == FROZEN.read_text(), "a name that people use was changed, or a new one not frozen"


def test_every_flag_of_up_is_a_setting() -> None:
    up = get_command(app).commands["up"]
    settings = {setting.name for setting in every_setting()}

    assert {option.name for option in up.params} - {"config"} <= settings


def test_version_and_help_answer_on_stdout(tmp_path: Path) -> None:
    assert tokenworks("--version", home=tmp_path).stdout == f"tokenworks {__version__}\n"
    assert "doctor" in tokenworks("--help", home=tmp_path).stdout


def test_wrong_usage_ends_with_code_2(tmp_path: Path) -> None:
    answer = tokenworks("upp", home=tmp_path)

    assert answer.returncode == 2
    assert "Did you mean 'up'?" in answer.stderr
    assert answer.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "--isa", "avx1"), "engine.isa cannot be 'avx1' (flag --isa)"),
        (("up", "--kv-format", "int9"), "engine.kv_format cannot be 'int9' (flag --kv-format)"),
        (("up", "--host", "0.0.0.0"), "hint: give --api-key-file"),
        (("up", "--model", "no-such-model"), "no model 'no-such-model'"),
        (("up", "--api-key-file", "absent"), "absent"),
        (("up", "--config", "absent.toml"), "no settings file 'absent.toml'"),
        (("models", "inspect", "no-such-model"), "no model 'no-such-model'"),
        (("models", "remove", "smollm2-135m-instruct"), "has not been pulled"),
        (("models", "pull", "file:absent.gguf"), "absent.gguf"),
        (("models", "pull", "file:~no-such-user/x.gguf"), "x.gguf"),
        (("models", "inspect", "~no-such-user/x.gguf"), "x.gguf"),
        (("up", "--api-key-file", "~no-such-user/key"), "cannot be read"),
    ],
)
def test_a_mistake_is_told_with_a_hint_and_no_traceback(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    answer = tokenworks(*arguments, home=tmp_path)

    assert answer.returncode == 1
    assert said in answer.stderr
    assert answer.stderr.startswith("error: ")
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    answer = tokenworks("--debug", "models", "inspect", "no-such-model", home=tmp_path)

    assert "Traceback" in answer.stderr


def test_models_come_from_a_file_and_go_again(tiny_model: Path, tmp_path: Path) -> None:
    pulled = tokenworks("models", "pull", f"file:{tiny_model}", home=tmp_path)
    assert pulled.returncode == 0, pulled.stderr
    assert Path(pulled.stdout.strip()).is_file()

    listed = json.loads(tokenworks("models", "list", "--json", home=tmp_path).stdout)
    states = {entry["id"]: entry["state"] for entry in listed}
    assert states == {
        "all-minilm-l6-v2": "available",
        "smollm2-135m-instruct": "available",
        "tiny": "pulled",
    }

    inside = json.loads(tokenworks("models", "inspect", "tiny", "--json", home=tmp_path).stdout)
    assert inside["config"]["layers"] == 2
    assert {group["runs_as"] for group in inside["groups"]} == {
        *("8-bit, rounded", "rows: F32, exact", "F32, exact"),
    }
    shown = tokenworks("models", "inspect", "tiny", home=tmp_path).stdout
    assert "layers" in shown
    assert "runs as" in shown
    assert "8-bit, rounded" in shown

    assert tokenworks("models", "remove", "tiny", home=tmp_path).returncode == 0
    assert "tiny" not in tokenworks("models", "list", home=tmp_path).stdout


def test_what_is_secret_in_a_setting_is_masked() -> None:
    assert mask("https://me:word@index.example/simple") == "https://***@index.example/simple"
    assert mask("HF_TOKEN=hf_abcdef") == "HF_TOKEN=***"
    assert mask("global.index-url='https://index.example'") == (
        "global.index-url='https://index.example'"
    )


def test_what_a_model_file_says_of_itself_is_neither_markup_nor_terminal_codes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "hostile.gguf"
    says = {"general.name": "[/bold] \x1b]0;title\x07", "general.license": "\x1b[2Jfree"}
    write_random_model(path, TINY_CONFIG, metadata=says)

    shown = tokenworks("models", "inspect", str(path), home=tmp_path)

    assert shown.returncode == 0, shown.stderr
    assert "[/bold] \ufffd]0;title\ufffd" in shown.stdout
    assert "\ufffd[2Jfree" in shown.stdout


def test_a_licence_from_elsewhere_is_no_terminal_code(tmp_path: Path) -> None:
    folder = Home(tmp_path).models / "free"
    folder.mkdir()
    write_record(folder, Record(source="hf:owner/free", files={}, licence="\x1b]0;title\x07"))

    assert "\ufffd]0;title\ufffd" in tokenworks("models", "list", home=tmp_path).stdout


def test_what_up_says_to_paste_is_safe_to_paste_whatever_the_model_is_called() -> None:
    model = 'it\'s "mine"; $(touch x)'
    line = next(
        line for line in welcome("http://x", model, ServerSettings()).split("\n") if "-d" in line
    )

    assert json.loads(shlex.split(line)[-1])["model"] == model

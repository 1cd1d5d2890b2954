import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from factory_process import running_factory, surroundings, tokenworks
from tokenworks.cli import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
CHINESE = (ROOT / "README.zh-CN.md").read_text()
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
MARKED = r"<!-- run(?P<how>[^>]*?) -->\n```(?P<language>sh|python)\n(?P<text>.*?)\n```"
ADDRESS = "http://127.0.0.1:8410"
PROGRAM = ".venv/bin/tokenworks"
MODEL = "smollm2-135m-instruct"
CODE = re.compile(r"```sh\n(.*?)\n```|`([^`\n]+)`", re.DOTALL)
COMMAND = re.compile(r"^(?:.*\|\s*|\S*/)?tokenworks ([^|#\n]+)", re.MULTILINE)


def marked(needs_factory: bool) -> list[object]:
    """What is marked to be run, of the README and the guides: language and text."""
    return [
        pytest.param(one["language"], one["text"], id=f"{document.stem}-{index}")
        for document in (ROOT / "README.md", *GUIDES)
        for index, one in enumerate(re.finditer(MARKED, document.read_text(), re.DOTALL))
        if ("factory" in one["how"]) == needs_factory
    ]


def run(language: str, text: str, home: Path, address: str = ADDRESS) -> str:
    """Run what a document shows as it stands, but for the free port and where the program lies."""
    program = home / "bin" / "tokenworks"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom tokenworks.cli import main\nmain()\n")
    program.chmod(0o755)
    text = text.replace(ADDRESS, address).replace(PROGRAM, "tokenworks")
    shell = ["bash", "-euo", "pipefail", "-c"]
    own = surroundings(home)
    answer = subprocess.run(
        [*(shell if language == "sh" else [sys.executable, "-c"]), text],
        capture_output=True,
        text=True,
        timeout=60,
        env={
            **own,
            "PATH": f"{program.parent}:{own['PATH']}",
            "TOKENWORKS_SERVER_PORT": address.rpartition(":")[2],
        },
        check=False,
    )
    assert answer.returncode == 0, f"{text}\n{answer.stderr}"
    return answer.stdout


@pytest.fixture(scope="module")
def factory(endless_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    named = home / f"{MODEL}.gguf"
    named.symlink_to(endless_model)
    with running_factory(home, "--model", str(named)) as address:
        yield address


@pytest.mark.parametrize(("language", "text"), marked(needs_factory=True))
def test_what_is_shown_for_a_running_factory_gets_an_answer(
    language: str, text: str, factory: str, tmp_path: Path
) -> None:
    answer = run(language, text, tmp_path, factory)

    assert answer.strip()
    assert '"error"' not in answer


@pytest.mark.parametrize(("language", "text"), marked(needs_factory=False))
def test_what_is_shown_and_needs_no_factory_runs(language: str, text: str, tmp_path: Path) -> None:
    assert run(language, text, tmp_path).strip()


def test_the_commands_of_the_readme_are_marked_to_be_run() -> None:
    found = re.findall(MARKED, README, re.DOTALL)

    assert sum("factory" in how for how, *_ in found) == 2
    assert sum("factory" not in how for how, *_ in found) == 2


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_a_document_shows_exists(document: Path) -> None:
    for block, inline in CODE.findall(document.read_text()):
        for words in COMMAND.findall(block or inline):
            command: Any = typer.main.get_command(app)
            options = option_names(command)
            for word in words.split():
                if word.startswith("--"):
                    assert word in options, f"tokenworks {words}"
                elif hasattr(command, "commands"):
                    assert word in command.commands, f"tokenworks {words}"
                    command = command.commands[word]
                    options |= option_names(command)


def option_names(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts} | {"--help"}


def test_the_index_of_the_guides_names_each_once() -> None:
    index = (ROOT / "docs" / "README.md").read_text()

    for guide in GUIDES:
        assert index.count(f"(guides/{guide.name})") == 1, guide.name


def test_make_runs_what_the_readme_says_it_does(tmp_path: Path) -> None:
    shown = re.search(r"`make up ([^`]+)`", README)
    assert shown is not None
    variables = dict(one.split("=") for one in shown[1].split())
    assert variables == {"PORT": "8411", "MODEL": "file:/path/to/model.gguf"}

    given = [f"{name}={value}" for name, value in variables.items()]
    would = subprocess.run(
        ["make", "-n", "up", *given], cwd=ROOT, capture_output=True, text=True, check=True
    )
    last = shlex.split(would.stdout.strip().splitlines()[-1])

    assert last == f"exec {PROGRAM} up --port 8411 --model {variables['MODEL']}".split()


def test_an_exported_host_does_not_open_the_factory() -> None:
    would = subprocess.run(
        ["make", "-n", "up"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**surroundings(ROOT), "HOST": "0.0.0.0", "PORT": "1"},
    )

    assert would.stdout.strip().splitlines()[-1].strip() == f"exec {PROGRAM} up"


def test_the_first_commands_come_before_line_20() -> None:
    top = README.splitlines()[:19]

    assert any(line.startswith("make up") for line in top)
    assert any(line.startswith("make test") for line in top)


def test_both_readmes_show_the_same_commands() -> None:
    commands = r"```sh\n(.*?)\n```"

    assert re.findall(commands, CHINESE, re.DOTALL) == re.findall(commands, README, re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_the_model_of_the_readme_is_the_default_one(tmp_path: Path) -> None:
    assert MODEL in tokenworks("models", "list", "--json", home=tmp_path).stdout
    assert f'"model": "{MODEL}"' in README

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from factory_process import running_factory, surroundings, tokenworks

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
CHINESE = (ROOT / "README.zh-CN.md").read_text()
MARKED = r"<!-- run(?P<how>[^>]*?) -->\n```sh\n(?P<command>.*?)\n```"
ADDRESS = "http://127.0.0.1:8410"
PROGRAM = ".venv/bin/tokenworks"
MODEL = "smollm2-135m-instruct"


def marked(needs_factory: bool) -> list[str]:
    found = re.finditer(MARKED, README, re.DOTALL)
    return [one["command"] for one in found if ("factory" in one["how"]) == needs_factory]


def run(command: str, home: Path, address: str = ADDRESS) -> str:
    """Run a README's command as it stands, but for the program's path and the free port."""
    own = f"{sys.executable} -c 'from tokenworks.cli import main; main()'"
    command = command.replace(ADDRESS, address).replace(PROGRAM, own)
    command = command.replace(f"{own} chat", f"{own} chat --url {address}")
    answer = subprocess.run(
        ["bash", "-euc", command],
        capture_output=True,
        text=True,
        timeout=60,
        env=surroundings(home),
        check=False,
    )
    assert answer.returncode == 0, f"{command}\n{answer.stderr}"
    return answer.stdout


@pytest.fixture(scope="module")
def factory(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    named = home / f"{MODEL}.gguf"
    named.symlink_to(tiny_model)
    with running_factory(home, "--model", str(named)) as address:
        yield address


@pytest.mark.parametrize("command", marked(needs_factory=True))
def test_a_command_for_a_running_factory_gets_an_answer(
    command: str, factory: str, tmp_path: Path
) -> None:
    answer = run(command, tmp_path, factory)

    assert answer.strip()
    assert '"error"' not in answer


@pytest.mark.parametrize("command", marked(needs_factory=False))
def test_a_command_that_needs_no_factory_runs(command: str, tmp_path: Path) -> None:
    assert run(command, tmp_path).strip()


def test_the_commands_of_the_readme_are_marked_to_be_run() -> None:
    assert len(marked(needs_factory=True)) == 2
    assert len(marked(needs_factory=False)) == 2


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


@pytest.mark.parametrize("document", sorted(ROOT.glob("*.md")), ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_model_of_the_readme_is_the_default_one(tmp_path: Path) -> None:
    assert MODEL in tokenworks("models", "list", "--json", home=tmp_path).stdout
    assert f'"model": "{MODEL}"' in README

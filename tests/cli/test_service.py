import configparser
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from factory_process import PROGRAM, served_by
from tokenworks.cli.service import find_program, folder_out_of_sight, unit
from tokenworks.errors import ConfigError
from tokenworks.gateway.supervisor import GRACE_SECONDS
from tokenworks.server.settings import ServerSettings

PLACE = Path("/usr/local/lib/tokenworks/bin/tokenworks")


def parsed(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # keys keep their case
    parser.read_string(text)
    return parser


def test_the_unit_runs_this_installation(tmp_path: Path) -> None:
    program = tmp_path / "tokenworks"
    program.write_text(
        f"#!{PROGRAM[0]}\nfrom tokenworks.cli import main\nmain()\n"  # as pip writes it
    )
    program.chmod(0o755)
    answer = subprocess.run([program, "service"], capture_output=True, text=True, check=True)

    assert parsed(answer.stdout)["Service"]["ExecStart"] == f"{program} up"


def test_a_program_that_the_sandbox_hides_is_pointed_out() -> None:
    assert folder_out_of_sight(PLACE) is None
    for home in ("/home", "/root", "/tmp"):
        assert folder_out_of_sight(Path(home, "someone/.venv/bin/tokenworks")) == home
    assert folder_out_of_sight(Path("/homes/a/tokenworks")) is None


def test_a_path_with_a_space_is_quoted_and_one_systemd_would_expand_is_refused() -> None:
    assert parsed(unit(Path("/srv/my things/tokenworks")))["Service"]["ExecStart"] == (
        '"/srv/my things/tokenworks" up'
    )
    for odd in ("%h", "$HOME", 'a"b', "a\nb", "a;b", "a\\b"):
        with pytest.raises(ConfigError, match="systemd would not take"):
            unit(Path("/srv") / odd / "tokenworks")


def test_without_a_program_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no program 'tokenworks'") as caught:
        find_program(Path("-c"), tmp_path / "python")

    assert "pip install tokenworks" in str(caught.value)


def test_the_program_beside_python_is_found_when_called_otherwise(tmp_path: Path) -> None:
    (tmp_path / "tokenworks").touch()

    assert find_program(Path("-c"), tmp_path / "python") == tmp_path / "tokenworks"


def test_stopping_may_take_longer_than_draining_does() -> None:
    seconds = float(parsed(unit(PLACE))["Service"]["TimeoutStopSec"])

    assert seconds >= ServerSettings().drain_seconds + GRACE_SECONDS + 10


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit_and_finds_it_well_locked(tmp_path: Path) -> None:
    path = tmp_path / "tokenworks.service"
    path.write_text(unit(PLACE).replace(str(PLACE), "/bin/true"))  # it wants a program that exists
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")

    locks = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert locks.returncode == 0, locks.stdout[-300:] + locks.stderr


def test_a_factory_tells_its_service_manager_when_it_answers(
    tiny_model: Path, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with served_by(PROGRAM, tmp_path, "--model", str(tiny_model), **told):
            assert manager.recv(100) == b"READY=1"

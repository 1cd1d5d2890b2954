"""The installation's secret: made once, its owner's only."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tokenworks.errors import ConfigError
from tokenworks.store.secret import SIZE, secret_at


def test_a_secret_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "secret"

    made = secret_at(path)

    assert len(made) == SIZE
    assert secret_at(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secret"]
    assert secret_at(tmp_path / "other") != made


MAKE = """
import sys
from pathlib import Path
from tokenworks.store.secret import secret_at
sys.stdin.readline()
print(secret_at(Path(sys.argv[1])).hex())
"""


def test_processes_that_make_it_at_once_get_the_same(tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", MAKE, str(tmp_path / "secret")]
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]

    secrets = {process.communicate("\n")[0] for process in processes}

    assert len(secrets) == 1
    assert os.listdir(tmp_path) == ["secret"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    secret_at(path)
    path.chmod(mode)

    with pytest.raises(ConfigError, match="can be read by others") as refusal:
        secret_at(path)

    assert refusal.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
def test_a_file_that_is_no_secret_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x" * size)
    path.chmod(0o600)

    with pytest.raises(ConfigError, match="has not 32 bytes"):
        secret_at(path)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        secret_at(tmp_path / "nowhere" / "secret")

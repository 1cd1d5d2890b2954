"""Atomic files and the lock between processes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tokenworks.store.files import atomic_writer, file_lock, try_lock, write_atomic


def test_a_file_is_replaced_whole_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomic(path, b"old")

    write_atomic(path, b"new")

    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["state.json"]


def test_readers_see_the_old_bytes_until_the_writer_is_done(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomic(path, b"old")

    with atomic_writer(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomic(path, b"old")

    def write_half() -> None:
        with atomic_writer(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()

    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.json"]


HOLD = """
import sys
from pathlib import Path
from tokenworks.store.files import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_waits_for_another_process_and_survives_its_death(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, os.fspath(lock)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        waited: list[bool] = []

        def end_holder() -> None:
            waited.append(True)
            holder.kill()

        with file_lock(lock, on_wait=end_holder):
            holder.wait()

    assert waited == [True]


def test_a_child_that_inherits_a_lock_holds_it_too(tmp_path: Path) -> None:
    waited: list[bool] = []
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with file_lock(tmp_path / "lock") as held:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(held,))

    def end_child() -> None:
        waited.append(True)
        child.communicate()

    with file_lock(tmp_path / "lock", on_wait=end_child):
        assert waited == [True]


def test_a_free_lock_is_taken_without_waiting(tmp_path: Path) -> None:
    def fail() -> None:
        raise AssertionError("nobody holds this lock")

    for _ in range(2):
        with file_lock(tmp_path / "lock", on_wait=fail):
            pass


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_is_whole_or_absent_whether_synced_or_not(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "page"
    with atomic_writer(path, sync=sync) as file:
        file.write(b"all")
        assert not path.exists()

    assert path.read_bytes() == b"all"
    assert os.listdir(tmp_path) == ["page"]


def test_a_lock_that_is_taken_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = try_lock(path)
    assert lock is not None
    assert try_lock(path) is None
    os.close(lock)
    again = try_lock(path)
    assert again is not None
    os.close(again)

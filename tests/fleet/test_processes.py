import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.fleet.processes import Backoff, Process, describe_exit

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


@given(failures=st.integers(0, 10_000), first=st.floats(0.001, 1), cap=st.floats(1, 60))
def test_backoff_grows_to_its_cap_and_never_beyond(failures: int, first: float, cap: float) -> None:
    backoff = Backoff(first_s=first, cap_s=cap)

    assert backoff.delay_s(0) == 0
    assert backoff.delay_s(1) == first
    assert backoff.delay_s(failures) <= backoff.delay_s(failures + 1) <= cap


def test_backoff_forgives_a_process_that_ran_well() -> None:
    backoff = Backoff(healthy_s=10)

    assert backoff.failures_after(5, ran_s=9.9) == 6
    assert backoff.failures_after(5, ran_s=10) == 1


def test_a_process_gets_its_input_and_files_and_its_last_words_are_kept() -> None:
    code = """if True:
        import os, sys
        os.write(int(sys.argv[1]), sys.stdin.buffer.read().upper())
        for number in range(40): print("line", number, file=sys.stderr)
        sys.exit(3)"""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = python(code, str(theirs.fileno()))
            process = await Process.start(
                "child", command, stdin=b"hello", pass_fds=[theirs.fileno()], keep_lines=5
            )
            code_of_exit = await process.wait()

            assert code_of_exit == 3
            assert ours.recv(100) == b"HELLO"
            assert process.last_lines == tuple(f"line {n}" for n in range(35, 40))

    run(main())


def test_lines_of_any_length_and_bytes_do_not_stop_the_child() -> None:
    code = "import sys; sys.stderr.buffer.write(b'\\xff' * 300_000 + b'\\nend\\n')"

    async def main() -> None:
        process = await Process.start("child", python(code))

        assert await process.wait() == 0
        assert process.last_lines[-1] == "end"

    run(main())


def test_a_process_that_will_not_end_is_killed_with_its_children() -> None:
    code = """if True:
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(child.pid, file=sys.stderr, flush=True)
        time.sleep(600)"""

    async def main() -> int:
        process = await Process.start("child", python(code))
        async with asyncio.timeout(20):
            while not process.last_lines:
                await asyncio.sleep(0.01)

        assert await process.terminate(0.1) == -signal.SIGKILL
        assert await process.terminate(0.1) == -signal.SIGKILL
        return int(process.last_lines[0])

    grandchild = run(main())

    deadline = (
        time.monotonic() + 20
    )  # a killed process that nobody waits for ends when it next runs
    while state_of(grandchild) not in ("gone", "Z"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"


def test_a_polite_process_ends_within_its_grace() -> None:
    async def main() -> int:
        process = await Process.start("child", python("import time; time.sleep(600)"))
        return await process.terminate(20)

    assert run(main()) == -signal.SIGTERM


def test_a_dead_process_that_may_not_be_signalled_is_an_ended_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """macOS says EPERM of a group whose members are dead but not waited for; Linux says nothing."""

    def refuse(group: int, number: int) -> None:
        raise PermissionError

    async def main() -> int:
        process = await Process.start("child", python("pass"))
        monkeypatch.setattr(os, "killpg", refuse)
        return await process.terminate(20)

    assert run(main()) == 0


def test_a_process_is_out_of_reach_of_the_terminals_ctrl_c() -> None:
    code = "import os, sys; print(os.getsid(0), file=sys.stderr)"

    async def main() -> None:
        process = await Process.start("child", python(code))
        await process.wait()

        assert process.last_lines == (str(process.pid),)

    run(main())


def test_a_program_that_does_not_exist_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        run(Process.start("child", ["/no/such/program"]))


def test_exits_are_described_for_people() -> None:
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-9) == "signal 9 (SIGKILL)"
    assert describe_exit(-99) == "signal 99"

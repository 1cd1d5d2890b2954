"""A real factory for tests: `tokenworks up` as a process of its own, with its own state folder."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = [sys.executable, "-c", "from tokenworks.cli import main; main()"]


def surroundings(home: Path) -> dict[str, str]:
    """The environment of a run that must not see this machine's own factory and settings."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TOKENWORKS_")}
    return {**kept, "TOKENWORKS_HOME": str(home), "NO_COLOR": "1"}


def tokenworks(
    *arguments: str, home: Path, stdin: str = "", check: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env=surroundings(home),
        cwd=home,
        check=check,
    )


@contextmanager
def running_factory(home: Path, *arguments: str) -> Iterator[str]:
    """Start `tokenworks up` on a free port; yield its address; end it as Ctrl-C does."""
    with served_by(PROGRAM, home, *arguments) as address:
        yield address


@contextmanager
def served_by(program: list[str], home: Path, *arguments: str, **environment: str) -> Iterator[str]:
    """As `running_factory`, with the program of another installation."""
    with (home / "stderr.log").open("w") as log:
        process = subprocess.Popen(
            [*program, "up", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**surroundings(home), **environment},
            cwd=home,
        )
    assert process.stdout is not None
    try:
        address = None
        for line in process.stdout:
            if found := re.search(r"http://[^\s/]+:\d+", line):
                address = found.group()
                break
        assert address is not None, (home / "stderr.log").read_text()
        yield address
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0, (home / "stderr.log").read_text()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()

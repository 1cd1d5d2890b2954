"""Starts, watches and ends local processes; says how long to wait before starting one again."""

import asyncio
import contextlib
import logging
import os
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

logger = logging.getLogger(__name__)

_LINE_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before a start after `failures` in a row. Times are in seconds.

    The wait doubles from `first_s` up to `cap_s`; a process that ran for `healthy_s` is forgiven
    its past.
    """

    first_s: float = 0.05
    cap_s: float = 5.0
    healthy_s: float = 10.0

    def delay_s(self, failures: int) -> float:
        if failures <= 0:
            return 0.0
        # The exponent is bounded because a float is.
        return min(self.cap_s, self.first_s * 2.0 ** min(failures - 1, 64))

    def failures_after(self, failures: int, ran_s: float) -> int:
        """The count once a process that had `failures` before it has died after `ran_s`."""
        return 1 if ran_s >= self.healthy_s else failures + 1


class Process:
    """One child in a session of its own: Ctrl-C reaches only us, and we decide.

    Its standard error goes to our log line by line; the last lines are kept for error messages.
    A child that must not outlive us holds a socket of ours and exits when that closes.
    """

    def __init__(self, name: str, child: asyncio.subprocess.Process, keep_lines: int) -> None:
        self.name = name
        self._child = child
        self._lines: deque[str] = deque(maxlen=keep_lines)
        self._reader = asyncio.create_task(self._read_stderr(), name=f"stderr of {name}")

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        pass_fds: Sequence[int] = (),
        keep_lines: int = 30,
    ) -> "Process":
        """Run `command`, give it `stdin` and the open files `pass_fds` (same numbers there).

        Raises OSError if the program cannot be started.
        """
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        process = cls(name, child, keep_lines)
        assert child.stdin is not None
        # A child that died before reading is reported by wait(), with its own words.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            child.stdin.write(stdin)
            await child.stdin.drain()
        child.stdin.close()
        return process

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The end of what the process wrote to standard error, oldest line first."""
        return tuple(self._lines)

    async def wait(self) -> int:
        """Return the exit code once the process is gone and its last words are read.

        A death by signal n gives -n.
        """
        code = await self._child.wait()
        # A grandchild may hold the pipe open for ever; the child's own words are there already.
        await asyncio.wait({self._reader}, timeout=1.0)
        return code

    async def terminate(self, grace_s: float) -> int:
        """Ask the process to end; after `grace_s` seconds, end it and its children. Idempotent."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self._child.wait()
        except TimeoutError:
            logger.warning("%s (pid %d) did not end in %g s: killed", self.name, self.pid, grace_s)
        self.kill()
        code = await self._child.wait()
        self._reader.cancel()
        await asyncio.wait({self._reader})
        return code

    def kill(self) -> None:
        """End the process and every child it left in its session's group, at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._child.returncode is None:
            # Dead but not yet waited for: Linux finds no such process, macOS permits no signal.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def _read_stderr(self) -> None:
        assert self._child.stderr is not None
        while line := await self._read_line(self._child.stderr):
            text = line.decode("utf-8", "replace").rstrip()
            self._lines.append(text)
            logger.info("%s: %s", self.name, text)

    @staticmethod
    async def _read_line(stream: asyncio.StreamReader) -> bytes:
        try:
            return await stream.readline()
        except ValueError:  # longer than the limit: take what is there as a line
            return await stream.read(_LINE_BYTES)


def describe_exit(code: int) -> str:
    """`exit code 3` or `signal 9 (SIGKILL)`, for people."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {-code} ({signal.Signals(-code).name})"
    return f"signal {-code}"

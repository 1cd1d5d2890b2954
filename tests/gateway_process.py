"""A gateway as a process of its own, that may be killed at any moment and started again."""

import asyncio
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from factory_process import PROGRAM, surroundings
from tokenworks.accounts.books import Books, opened
from tokenworks.accounts.keys import NewKey


class GatewayProcess:
    """`tokenworks up` without a model of its own, on the database and secret in `home`."""

    def __init__(self, home: Path, policies: str, before: str = "") -> None:
        self.home = home
        self._before = before  # code that it runs first
        self.url = ""
        self.process: subprocess.Popen[str] | None = None
        (home / "policies.toml").write_text(policies)

    def start(self) -> None:
        program = [*PROGRAM[:-1], f"{self._before}\n{PROGRAM[-1]}"]
        command = [*program, "up", "--port", "0", "--model", "none"]
        command += ["--policies", str(self.home / "policies.toml")]
        with (self.home / "stderr.log").open("a") as log:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=surroundings(self.home),
                cwd=self.home,
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"http://[^\s/]+:\d+", line):
                self.url = found.group()
                # What it says later must never fill the pipe.
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return
        raise AssertionError(self.log)

    def kill(self) -> None:
        """As `kill -9`, or the kernel when memory is short."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None

    @property
    def log(self) -> str:
        return (self.home / "stderr.log").read_text()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @contextmanager
    def books(self) -> Iterator[Books]:
        """Its books, opened by another process: this one."""
        with opened(f"sqlite:///{self.home / 'tokenworks.db'}", self.home / "secret") as books:
            yield books

    def key(self, **fields: Any) -> str:
        with self.books() as books:
            new = NewKey(**{"tenant": "acme", **fields})
            return asyncio.run(books.keys.create(new, actor="t")).text

    def client(self, key: str, **how: Any) -> httpx2.Client:
        headers = {"authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=20, **how)


@contextmanager
def gateway_process(home: Path, policies: str, before: str = "") -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(home, policies, before)
    try:
        yield gateway
    finally:
        gateway.kill()

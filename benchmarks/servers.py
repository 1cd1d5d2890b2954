"""Servers as processes of their own: started on a free port, asked until ready, ended."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from http_load import Served

PATIENCE_S = 120.0
KV_MIB = 1024
"""Memory for keys and values that each server is given."""


@dataclass(frozen=True)
class Server:
    """How to start one: `{port}` in the command stands for the port it shall listen on."""

    name: str
    command: tuple[str | Path, ...]
    ready_path: str = "/health"
    variables: Mapping[str, str] = field(default_factory=dict)


def ours(model: str | None, threads: int, *more: str) -> Server:
    """`tokenworks up` as people start it."""
    program = Path(sys.executable).with_name("tokenworks")
    chosen = ("--model", model) if model else ()
    settings = ("--threads", str(threads), "--kv-memory-mb", str(KV_MIB))
    command = (program, "up", "--port", "{port}", *settings, *chosen, *more)
    return Server("ours", command, ready_path="/ready")


@contextmanager
def running(server: Server) -> Iterator[Served]:
    """The server, ready to answer; it is ended with what it started. Exits if it never is ready."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(word).replace("{port}", str(port)) for word in server.command]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **server.variables},
            start_new_session=True,
        )
        try:
            _wait_until_ready(process, url + server.ready_path, server.name, log)
            yield Served(url, _model(url))
        finally:
            _end(process)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, name: str, log: object) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.05)
    log.seek(0)  # type: ignore[attr-defined]
    sys.exit(f"error: {name} did not start\n{log.read()[-2000:]}")  # type: ignore[attr-defined]


def _model(url: str) -> str:
    with urllib.request.urlopen(f"{url}/v1/models", timeout=30) as answer:
        identity: str = json.load(answer)["data"][0]["id"]
        return identity


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

"""Starts the real factory as a person would, and times what that person waits for."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Started:
    """Seconds since the command was given: to its address, and to the first streamed text."""

    ready_s: float
    token_s: float


def start_factory(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
    began: float | None = None,
) -> Started:
    """Run a command that ends in `tokenworks up`, ask it one thing, end it with Ctrl-C.

    `began` is the moment to count from (time.perf_counter()), if not now.
    """
    start = time.perf_counter() if began is None else began
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as factory:
        assert factory.stdout
        try:
            for line in factory.stdout:
                if " answers at http" in line:
                    ready = time.perf_counter() - start
                    _ask(line)
                    return Started(ready, time.perf_counter() - start)
            sys.exit(f"error: {command[0]} gave no address")
        finally:
            if factory.poll() is None:
                os.killpg(factory.pid, signal.SIGINT)
            factory.stdout.read()


def _ask(greeting: str) -> None:
    """Return when the first text of an answer has come."""
    body = {
        "model": greeting.split(" ", 1)[0],
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 4,
        "stream": True,
    }
    request = urllib.request.Request(
        f"{greeting.rsplit(' ', 1)[-1].strip()}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        for line in answer:
            if b'"content":"' in line and b'"content":""' not in line:
                return
    sys.exit("error: the factory streamed no text")

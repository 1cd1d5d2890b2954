"""The peer: LiteLLM's proxy, from its wheels, in an environment of its own.

Two of its pins name versions that the package index does not have: those two are relaxed, all
others hold. It keeps virtual keys, their budgets and its spend log in PostgreSQL through Prisma,
whose engine is a download that no package has. So it runs as its bare proxy: one key for all, no
budget, no rate limit, no ledger, nothing that looks into a text. What is compared can only be to
its advantage. `httptools`, which it does not ask for and its server takes where it is there, is
installed too. Its beta in Rust (`rust: true`) has no part for OpenAI's chat completions.
"""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import httpx2
from harness import PEERS
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

VERSION = "1.109.1"
RELAXED = ("certifi", "litellm-proxy-extras")
HOME = PEERS / "litellm"
PYTHON, PROGRAM = HOME / "bin" / "python", HOME / "bin" / "litellm"
STARTED_WITHIN_S = 120.0
CONFIG = """
model_list:
  - model_name: instant
    litellm_params:
      model: openai/instant
      api_base: http://127.0.0.1:{port}/v1
      api_key: none
litellm_settings:
  request_timeout: 600
  set_verbose: false
  suppress_debug_info: true
  disable_streaming_logging: true
general_settings:
  master_key: {key}
"""
ENVIRONMENT = {
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",  # does not look for a .env file
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # asks nobody for prices
    "NO_DOCS": "True",
    "DISABLE_ADMIN_UI": "True",
}


@dataclass(frozen=True)
class Way:
    """One way to run it."""

    workers: int
    server: str = "uvicorn"  # or granian, or gunicorn

    @property
    def name(self) -> str:
        return f"{self.server}, {self.workers} worker{'s' if self.workers > 1 else ''}"


@dataclass(frozen=True)
class Running:
    url: str
    key: str


def install() -> None:
    """Install into `.peers`; nothing if it is there."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
    _pip("--no-deps", f"litellm[proxy]=={VERSION}")
    _pip(*map(str, _requirements()), "httptools")


def installed() -> bool:
    return PROGRAM.exists()


def _pip(*arguments: str) -> None:
    subprocess.run([PYTHON, "-m", "pip", "install", "-q", *arguments], check=True)


def _requirements() -> Iterator[Requirement]:
    """What the installed wheel asks for, with the two pins relaxed."""
    site = next(HOME.glob("lib/python*/site-packages"))
    found = next(one for one in distributions(path=[str(site)]) if one.name == "litellm")
    for line in found.requires or ():
        one = Requirement(line)
        if one.marker is None or one.marker.evaluate({"extra": "proxy"}):
            one.marker = None
            if one.name in RELAXED:
                one.specifier = SpecifierSet()
            yield one


@contextmanager
def running(folder: Path, backend_port: int, way: Way) -> Iterator[Running]:
    """The proxy before a backend, ready, until the block ends."""
    key, port = f"sk-{secrets.token_hex(16)}", _free_port()
    config = folder / f"litellm-{port}.yaml"
    config.write_text(CONFIG.format(port=backend_port, key=key))
    url = f"http://127.0.0.1:{port}"
    kept = {name: text for name, text in os.environ.items() if name != "DATABASE_URL"}
    with (folder / f"litellm-{port}.log").open("w") as log:
        process = subprocess.Popen(
            _command(config, port, way),
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**kept, **ENVIRONMENT, "HOME": str(folder)},
            cwd=folder,
            start_new_session=True,
        )
    try:
        _wait(f"{url}/health/readiness", process, Path(log.name))
        yield Running(url, key)
    finally:
        _end(process)


def _command(config: Path, port: int, way: Way) -> Sequence[str | Path]:
    server = [] if way.server == "uvicorn" else [f"--run_{way.server}"]
    where = ("--host", "127.0.0.1", "--port", str(port))
    how = ("--num_workers", str(way.workers), "--telemetry", "False", *server)
    return (PROGRAM, "--config", config, *where, *how)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(url, timeout=5).status_code == 200:
                return
        except httpx2.HTTPError:
            time.sleep(0.3)
    raise RuntimeError(f"LiteLLM did not start:\n{log.read_text()[-2000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Its workers are of its own session, and end with it."""
    os.killpg(process.pid, 15)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])

"""What the gateway adds to a streamed request, all policies on, before a backend that is instant.

The same load goes to the backend itself and through the gateway, in turn; the difference is the
gateway's. Load, backend and gateway are processes of their own.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any

from harness import note, summary, wait_until_idle

HERE = Path(__file__).parent
PROGRAM = (sys.executable, "-c", "from tokenworks.cli import main; main()")
BODY = {
    "model": "instant",
    "stream": True,
    "max_tokens": 20,
    "messages": [
        {"role": "system", "content": "You answer briefly and to the point."},
        {"role": "user", "content": "Who dug the canal between the two lakes, when and why?"},
    ],
}
POLICIES = """
[[backends]]
name = "instant"
url = "http://127.0.0.1:{port}/v1"
tier = "site"
clearance = "internal"
models = {{ instant = "instant" }}
prices = {{ input = "0.10", output = "0.20" }}
"""
RATE, SECONDS = 100, 10
GAP_MS = 5.0
GROWTH_REQUESTS, CLIENTS = 50_000, 16


@dataclass(frozen=True)
class Setup:
    """Addresses of the backend and of the gateway in front of it, the gateway's process, a key."""

    direct: str
    through: str
    gateway: int
    key: str
    body: Path


def overhead(
    rounds: int = 5, requests: int = GROWTH_REQUESTS
) -> tuple[dict[str, float], dict[str, Any]]:
    """Keys of the result, and the figures of each round."""
    with setup(gap_ms=0.0) as at:
        found = [one_round(at) for _ in range(rounds)]
        growth = memory_growth_mb(at, requests)
    with setup(gap_ms=GAP_MS) as at:
        delays = [delay_ms(at) for _ in range(rounds)]
    keys = {
        "overhead_p50_ms": round(median(one["whole_p50"] for one in found), 3),
        "overhead_p99_ms": round(median(one["whole_p99"] for one in found), 3),
        "cpu_ms_per_request": round(median(one["cpu_ms"] for one in found), 3),
        "first_byte_delay_ms": round(median(delays), 3),
        "memory_growth_mb": round(growth, 2),
    }
    spread = {name: summary([one[name] for one in found]) for name in found[0]}
    return keys, {**spread, "first_byte_delay_ms": summary(delays)}


def one_round(at: Setup) -> dict[str, float]:
    """The gateway's share of the times of an answer, until its first piece and its end."""
    wait_until_idle()
    direct = load(at.direct, at)
    wait_until_idle()
    before = cpu_ms(at.gateway)
    through = load(at.through, at)
    found = {"cpu_ms": (cpu_ms(at.gateway) - before) / len(through["whole_ms"])}
    for name in ("first", "whole"):
        ours, theirs = through[f"{name}_ms"], direct[f"{name}_ms"]
        for share, word in ((0.5, "p50"), (0.99, "p99")):
            found[f"{name}_{word}"] = quantile(ours, share) - quantile(theirs, share)
    note(", ".join(f"{name} {value:.2f}" for name, value in found.items()))
    return found


def delay_ms(at: Setup) -> float:
    """How much later the pieces of a stream arrive than without the gateway."""
    wait_until_idle()
    direct = load(at.direct, at, rate=20)["piece_ms"]
    wait_until_idle()
    return quantile(load(at.through, at, rate=20)["piece_ms"], 0.5) - quantile(direct, 0.5)


def memory_growth_mb(at: Setup, requests: int) -> float:
    """How much more memory it has after so many requests than after the first tenth of them."""
    tenth = requests // 10
    sizes = []
    for wanted in (tenth, requests - tenth):
        done = 0
        while done < wanted:
            done += len(load(at.through, at, clients=CLIENTS)["whole_ms"])
        sizes.append(resident_mb(at.gateway))
        note(f"{sizes[-1]:.1f} MB after {done} requests more")
    return sizes[1] - sizes[0]


def load(url: str, at: Setup, *, rate: float = RATE, clients: int = 0) -> dict[str, Any]:
    how = ["--clients", str(clients)] if clients else ["--rate", str(rate)]
    command = [sys.executable, HERE / "gateway_load.py", url, "--body", at.body, "--key", at.key]
    answer = subprocess.run(
        [*command, "--seconds", str(SECONDS), *how], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(answer.stdout)
    if found["failures"]:
        sys.exit(f"error: {found['failures']} requests failed: {found['heads'][:1]}")
    return found


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def cpu_ms(process: int) -> float:
    """Processor time that a process has used, all of its threads together."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def resident_mb(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def setup(gap_ms: float) -> Iterator[Setup]:
    """A backend, and a gateway before it with a key and its limits, budgets, labels, detectors and
    the ledger."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        instant = [sys.executable, HERE / "instant_backend.py", "--gap-ms", str(gap_ms)]
        backend = stack.enter_context(running(instant, {}))
        port = int(line_of(backend))
        variables = {"TOKENWORKS_HOME": str(folder)}
        policies = folder / "policies.toml"
        policies.write_text(POLICIES.format(port=port))
        limits = ("--requests-per-minute", "1000000", "--tokens-per-minute", "1000000000")
        key = told(variables, "keys", "create", "--tenant", "acme", *limits)
        for holder in ("tenant:acme", f"key:{key.split('_')[1]}"):
            told(variables, "budgets", "set", holder, "--money", "1000000")
        up = ("up", "--model", "none", "--policies", str(policies), "--port", "0")
        gateway = stack.enter_context(running([*PROGRAM, *up], variables))
        address = line_of(gateway).rsplit(" ", 1)[-1]
        body = folder / "body.json"
        body.write_text(json.dumps(BODY))
        path = "/v1/chat/completions"
        yield Setup(
            direct=f"http://127.0.0.1:{port}{path}",
            through=f"{address}{path}",
            gateway=gateway.pid,
            key=key,
            body=body,
        )


@contextmanager
def running(
    command: Sequence[str | Path], variables: dict[str, str], log: IO[str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """A process until the block ends; what it complains of goes to `log` if there is one."""
    environment = {**os.environ, **variables}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def told(variables: dict[str, str], *arguments: str) -> str:
    environment = {**os.environ, **variables}
    answer = subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return answer.stdout.strip()

"""What every benchmark shares: an idle machine, interleaved pairs, medians, one record."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DATA = ROOT.parent / "shared" / "data"
PEERS = ROOT / ".peers"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Figures of two sides measured in turn; `ratios` are ours ÷ theirs, pair by pair."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    def record(self) -> dict[str, object]:
        return {
            "ours": summary(self.ours),
            "theirs": summary(self.theirs),
            "ratio": summary(self.ratios),
        }


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and spread of a few measurements."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def in_turn(rounds: int, ours: Callable[[], float], theirs: Callable[[], float]) -> Pairs:
    """Measure both sides alternately, each on an idle machine."""
    pairs = Pairs([], [])
    for _ in range(rounds):
        wait_until_idle()
        pairs.ours.append(ours())
        wait_until_idle()
        pairs.theirs.append(theirs())
    return pairs


def busy_fraction(seconds: float = 0.3) -> float:
    """The share of all processors' time that was used in the next moments, by anybody."""

    def read() -> tuple[int, int]:
        fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    total, idle = read()
    time.sleep(seconds)
    total_after, idle_after = read()
    return 1 - (idle_after - idle) / max(1, total_after - total)


def wait_until_idle(limit: float = 0.08, patience_s: float = 120) -> None:
    """Timing beside other work measures the other work. Exits with a message if it never ends."""
    deadline = time.monotonic() + patience_s
    while (busy := busy_fraction()) > limit:
        if time.monotonic() > deadline:
            sys.exit(f"error: the machine is {busy:.0%} busy with other work\n\nhint: end it first")


def environment() -> dict[str, object]:
    """Where and with what a record was made."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    flags = Path("/proc/cpuinfo").read_text()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": git("rev-parse", "--short", "HEAD")
        + ("+" if git("status", "-s", "-uno") else ""),
        "cpu": cpu,
        "avx512_vnni": "avx512_vnni" in flags,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "tokenworks": version("tokenworks"),
    }


def finish(area: str, keys: dict[str, float], details: dict[str, object]) -> None:
    """Write the record and print the keys as the last line of standard output."""
    RESULTS.mkdir(exist_ok=True)
    record = {"environment": environment(), "keys": keys, "details": details}
    (RESULTS / f"{area}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(keys))

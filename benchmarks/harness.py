"""What every benchmark shares: an idle machine, interleaved pairs, medians, one record."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from shards import merged

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


class Trial:
    """Set by a benchmark that is only tried out: nothing waits for an idle machine then, each peer
    runs in one way only, and no record is kept."""

    running = False


def wait_until_idle(limit: float = 0.08, patience_s: float = 120) -> None:
    """Timing beside other work measures the other work. Exits with a message if it never ends."""
    if Trial.running:
        return
    deadline = time.monotonic() + patience_s
    while (busy := busy_fraction()) > limit:
        if time.monotonic() > deadline:
            sys.exit(f"error: the machine is {busy:.0%} busy with other work\n\nhint: end it first")


FLAGS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimddp", "i8mm", "sve"),
)
"""What a processor's kernels may be chosen by, as Linux spells it."""


def processor() -> dict[str, object]:
    """The processor and those of its instruction sets that matter, and which path we take on it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    said = {name.strip(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
    flags = set((said.get("flags") or said.get("Features") or "").split())
    numbers = [
        f"{name} {said[name]}" for name in ("cpu family", "model", "stepping") if name in said
    ]
    return {
        "cpu": said.get("model name", platform.processor()),
        "cpu_model": ", ".join(numbers),
        "cpu_flags": [flag for flag in FLAGS if flag in flags],
        "path": _path(),
    }


def _path() -> str:
    try:
        from tokenworks.inference.executors.native import choose_path
    except ImportError:  # no kernels were built here
        return "none"
    return choose_path("auto")


def note(text: str) -> None:
    """Progress, for whoever watches."""
    print(text, file=sys.stderr, flush=True)


def environment() -> dict[str, object]:
    """Where and with what a record was made. A `+` after the commit: there were changes to it,
    other than of results."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    results = f":!{RESULTS.relative_to(ROOT)}"
    changed = git("status", "-s", "-uno", "--", ".", results)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": git("rev-parse", "--short", "HEAD") + ("+" if changed else ""),
        **processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "tokenworks": version("tokenworks"),
    }


def finish(
    area: str,
    keys: dict[str, float],
    details: dict[str, object],
    shard: str = "1/1",
    derived: Callable[[Mapping[str, float]], Mapping[str, float]] = lambda keys: {},
) -> None:
    """Write the record, with those of other shards of the same commit, and print all keys as the
    last line of standard output; among them those that are `derived` from keys of all shards."""
    RESULTS.mkdir(exist_ok=True)
    place = RESULTS / f"{area}.json"
    here = environment()
    new = {"environment": here, "shards": {shard: here}, "keys": keys, "details": details}
    record = merged(json.loads(place.read_text()) if place.exists() else None, new)
    record["keys"] |= derived(record["keys"])
    if not Trial.running:
        place.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record["keys"]))

"""What a process holds, by Linux's /proc, and whether it holds more and more."""

import os
import statistics
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

HERE = Path("/proc/self/status").exists()
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Held:
    """Memory of one process in MB, its threads and open files, at a moment in seconds."""

    at: float
    memory: float
    threads: int
    files: int


def held_by(pid: int) -> Held:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in status)
    return Held(
        at=time.monotonic(),
        memory=int(fields["VmRSS"].split()[0]) * 1024 / 1e6,
        threads=int(fields["Threads"]),
        files=len(os.listdir(f"/proc/{pid}/fd")),
    )


def processor_seconds(pid: int) -> float:
    """What all threads of a process have used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def growth(samples: list[Held]) -> float:
    """MB that memory grew over the samples' time, by the median of all slopes (Theil-Sen): a
    burst, or one sample that is off, does not count."""
    thin = samples[:: max(1, len(samples) // 200)]
    slopes = [
        (later.memory - earlier.memory) / (later.at - earlier.at)
        for earlier, later in combinations(thin, 2)
    ]
    return statistics.median(slopes) * (thin[-1].at - thin[0].at)


def peak_over_median(samples: list[Held]) -> float:
    """MB by which the largest sample exceeds the middle one."""
    return max(s.memory for s in samples) - statistics.median(s.memory for s in samples)

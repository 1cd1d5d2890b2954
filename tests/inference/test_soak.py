"""A whole factory under load: memory stays flat, and nothing that was taken stays taken.

`make soak AREA=inference` runs it for ten minutes, `make test` for a twentieth of that. By hand on
another model: `SOAK_MODEL=model.gguf make soak AREA=inference`.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest

import resources
from factory_process import PROGRAM, served_by
from mixed_load import under_load
from resources import Held, growth, held_by, peak_over_median, processor_seconds
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.text.tiny_vocabulary import tiny_vocabulary

SOAK = os.environ.get("TOKENWORKS_SOAK") == "1"
SECONDS = 600.0 if SOAK else 25.0
WARM_UP = 0.3
"""Share of the time in which caches and the KV store fill."""
SAMPLE_SECONDS = 0.25
CLIENTS = 6
KV_MEMORY_MB = 1
MOST_GROWTH_MB = 4.0
"""A leak of 1 kB a request is five times as much in ten minutes of this load."""
MOST_PEAK_MB = 12.0

pytestmark = pytest.mark.skipif(not resources.HERE, reason="no /proc to read here")


@dataclass(frozen=True)
class Factory:
    """A running factory and the process ids of its two halves."""

    url: str
    model: str
    context: int
    server: int
    worker: int


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    home = tmp_path_factory.mktemp("home")
    given = os.environ.get("SOAK_MODEL")
    path = Path(given).absolute() if given else _model(home / "small.gguf")
    settings = {
        "TOKENWORKS_ENGINE_THREADS": "2",
        "TOKENWORKS_ENGINE_CONTEXT_LENGTH": "1024",
        # So little that the store is full within seconds, and answers must make room for others.
        "TOKENWORKS_ENGINE_KV_MEMORY_MB": "64" if given else str(KV_MEMORY_MB),
    }
    with served_by(PROGRAM, home, "--model", str(path), **settings) as url:
        with httpx2.Client(base_url=url) as client:
            (name, report), *_ = client.get("/health").json()["models"].items()
        worker = report["worker_pid"]
        yield Factory(url, name, report["context_length"], _parent(worker), worker)


def _model(path: Path) -> Path:
    """Small, but with all that a big one has: groups of heads, a chat template, an output."""
    vocabulary = tiny_vocabulary()
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    config = replace(
        TINY_CONFIG, vocabulary=len(tokens), context_length=1024, tied_embedding=False, layers=4
    )
    write_random_model(path, config, metadata=vocabulary)
    return path


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def report(factory: Factory) -> dict[str, float]:
    with httpx2.Client(base_url=factory.url) as client:
        health = client.get("/health").json()
    return {"requests": health["requests"], **health["models"][factory.model]}


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.timeout(SECONDS + 180)
def test_memory_stays_flat_under_load_and_all_is_given_back(factory: Factory) -> None:
    processes = {"server": factory.server, "worker": factory.worker}
    load = {"clients": CLIENTS, "seconds": 2.0}
    with under_load(factory.url, factory.model, factory.context, **load) as done:
        done()  # what is opened and started once, with the first requests
    assert wait_until(lambda: report(factory)["requests"] == 0)
    before = {name: held_by(pid) for name, pid in processes.items()}

    samples: dict[str, list[Held]] = {name: [] for name in processes}
    load["seconds"] = SECONDS
    began = time.monotonic()
    with under_load(factory.url, factory.model, factory.context, **load) as done:
        while time.monotonic() < began + SECONDS:
            time.sleep(SAMPLE_SECONDS)
            if time.monotonic() > began + WARM_UP * SECONDS:
                for name, pid in processes.items():
                    samples[name].append(held_by(pid))
        counts = done()

    say(f"{sum(counts.values())} requests in {SECONDS:g} s: {dict(counts)}")
    assert len(counts) == 8, "a kind of request was never sent"
    assert wait_until(lambda: not any(taken(factory).values())), taken(factory)
    for name, seen in samples.items():
        grown, peak = growth(seen), peak_over_median(seen)
        say(f"{name}: {seen[-1].memory:.1f} MB, grew {grown:.2f} MB, peak +{peak:.2f} MB")
        assert grown < MOST_GROWTH_MB, f"the {name} grew by {grown:.1f} MB"
        assert peak < MOST_PEAK_MB, f"the {name} peaked {peak:.1f} MB above its median"
    for name, pid in processes.items():
        assert wait_until(lambda pid=pid, name=name: held_by(pid).files <= before[name].files), name
        assert held_by(pid).threads <= before[name].threads, name
    assert report(factory)["worker_pid"] == factory.worker, "the worker was started again"


def say(figures: str) -> None:
    """For whoever runs it with `-s`, and in the report of a failure."""
    sys.stderr.write(figures + "\n")


def taken(factory: Factory) -> dict[str, float]:
    """What is in use although nobody asks for anything."""
    now = report(factory)
    return {name: now[name] for name in ("requests", "running", "waiting", "pages_used")}


def test_an_idle_factory_takes_almost_no_processor_time(factory: Factory) -> None:
    with under_load(factory.url, factory.model, factory.context, clients=2, seconds=1.0) as done:
        done()
    assert wait_until(lambda: not any(taken(factory).values()))
    time.sleep(0.5)
    both = (factory.server, factory.worker)
    before = sum(map(processor_seconds, both))

    time.sleep(3)

    assert sum(map(processor_seconds, both)) - before <= 0.06  # 2 % of one core

"""What prefix reuse saves, and what it costs to look for it.

python benchmarks/prefix_reuse.py MODEL.gguf [--trace conversation_trace.jsonl]
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.base import Batch
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.messages import Generate, Sampling
from tokenworks.inference.models.model import load_model
from tokenworks.inference.pages import PagePool, PageTable, pages_for
from tokenworks.inference.prefixes import Node
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.clock import MonotonicClock

TURNS, ANSWER = 8, 32
SHARING, BEGINNING, OWN = 16, 1000, 24


class CountedExecutor(NativeExecutor):
    rows = 0

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        self.rows += len(batch.tokens)
        return super().forward(batch)


class Bench:
    """One engine and its counted rows."""

    def __init__(self, path: Path, threads: int) -> None:
        model = load_model(path)
        self.executor = CountedExecutor(model, isa="auto", threads=threads, context_length=0)
        settings = EngineSettings(model_path=str(path), model_id="bench", threads=threads)
        self.engine = Engine(self.executor, settings, MonotonicClock())
        self._random = np.random.default_rng(0)

    def text(self, tokens: int) -> list[int]:
        return self._random.integers(5, self.executor.vocabulary_size, tokens).tolist()

    def run(self, *requests: Generate) -> tuple[float, list[float], dict[str, list[int]]]:
        """Seconds until all is done, until each first token, and the answers."""
        began = time.perf_counter()
        answers: dict[str, list[int]] = {}
        first = []
        for request in requests:
            assert self.engine.submit(request) is None
        while step := self.engine.step():
            for token in step.tokens:
                if token.request_id not in answers:
                    first.append(time.perf_counter() - began)
                answers.setdefault(token.request_id, []).append(token.token)
        return time.perf_counter() - began, first, answers


def ask(name: str, prompt: list[int], max_tokens: int = ANSWER, tenant: str = "") -> Generate:
    sampling = Sampling(max_tokens=max_tokens, temperature=0.7)
    return Generate(request_id=name, prompt=prompt, sampling=sampling, tenant=tenant)


def conversations(bench: Bench) -> None:
    """Rows computed of tokens that had been computed before."""
    again = before = 0
    for number in range(4):
        history = bench.text(300)
        known = 0  # computed, as far as this conversation goes
        for turn in range(TURNS):
            rows = bench.executor.rows
            _, _, answers = bench.run(ask(f"{number}.{turn}", history))
            rows = bench.executor.rows - rows
            new = len(history) - known + ANSWER - 1
            again += rows - new
            before += known
            known = len(history) + ANSWER - 1
            history = [*history, *answers[f"{number}.{turn}"], *bench.text(40)]
    print(f"conversations of {TURNS} turns: {again} of {before} tokens computed again")


def together(bench: Bench) -> None:
    """Requests that come at once, as one tenant's and as many tenants' who share nothing."""
    seconds: dict[str, list[float]] = {}
    for _ in range(2):
        for name in ("shared", "apart"):
            beginning = bench.text(BEGINNING)
            requests = [
                ask(str(n), beginning + bench.text(OWN), 8, tenant=f"{n}" * (name == "apart"))
                for n in range(SHARING)
            ]
            rows = bench.executor.rows
            total, first, _ = bench.run(*requests)
            rows = bench.executor.rows - rows
            seconds.setdefault(name, []).append(total)
            print(
                f"{SHARING} at once, {BEGINNING} tokens alike, {name}: {rows} rows, {total:.2f} s, "
                f"first tokens after {min(first):.2f} to {max(first):.2f} s"
            )
    ratio = statistics.median(seconds["apart"]) / statistics.median(seconds["shared"])
    print(f"sharing is {ratio:.2f} times as fast")


def lookups() -> None:
    """Of a waiting request, all of whose prompt but the last page is known."""
    for tokens in (8_000, 100_000):
        pool = PagePool(2 * pages_for(tokens))
        prompt = np.random.default_rng(0).integers(0, 50_000, tokens).tolist()
        table = PageTable(pool, pages_for(tokens))
        table.open(prompt)
        table.computed(prompt, tokens - 20)
        waiting = PageTable(pool, pages_for(tokens))
        first = seconds_of(waiting, prompt)
        again = statistics.median(seconds_of(waiting, prompt) for _ in range(1000))
        print(f"lookup of {tokens} tokens: {first * 1e3:.2f} ms, again {again * 1e6:.1f} us")
        began = time.perf_counter()
        waiting.open(prompt)
        print(f"   taking the pages: {(time.perf_counter() - began) * 1e3:.2f} ms")


def seconds_of(table: PageTable, tokens: list[int]) -> float:
    began = time.perf_counter()
    table.match(tokens)
    return time.perf_counter() - began


def policy(trace: Path) -> None:
    """What is computed again of a trace whose lengths are over 4, one request after the other,
    with this order of eviction and with the longest unused first."""
    ours = Node.value
    for pages in (40_000, 100_000):
        for name, value in (("value", ours), ("recency", property(lambda _: 1.0))):
            Node.value = value  # type: ignore[assignment, method-assign]
            print(f"{pages} pages, by {name}: {again_of(trace, pages):.3f} computed again")
    Node.value = ours  # type: ignore[method-assign]


def again_of(trace: Path, pages: int) -> float:
    """The fraction of what was computed before, weighted by what computing it takes."""
    pool = PagePool(pages)
    seen: set[tuple[int, int]] = set()
    ideal = found = 0.0
    for prompt, blocks, answer in replayed(trace, 3000):
        known = 0
        while known < len(blocks) and (known, blocks[known]) in seen:
            known += 1
        seen.update(enumerate(blocks))
        most = min(known * 128, len(prompt) - 1)
        table = PageTable(pool, pages_for(len(prompt) + answer))
        cached = table.open(prompt)
        assert cached is not None
        tokens = prompt + [-len(seen) * 1000 - n for n in range(answer)]
        for length in range(len(prompt) + 1, len(tokens) + 1):
            table.grow(length)
        table.computed(tokens, min(len(tokens) - 1, len(table.pages) * 16))
        table.release()
        ideal += cost(most)
        found += cost(min(cached, most))
    return 1 - found / ideal


def replayed(trace: Path, count: int) -> Iterator[tuple[list[int], list[int], int]]:
    with trace.open() as lines:
        for _, line in zip(range(count), lines, strict=False):
            said = json.loads(line)
            blocks = said["hash_ids"]
            tokens = [block * 140 + n for block in blocks for n in range(128)]
            yield tokens[: max(1, said["input_length"] // 4)], blocks, said["output_length"] // 4


def cost(tokens: int) -> float:
    """Attention takes as long as the products from 4096 tokens on."""
    return tokens + tokens**2 / 2 / 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trace", type=Path)
    given = parser.parse_args()
    lookups()
    bench = Bench(given.model, given.threads)
    conversations(bench)
    together(bench)
    if given.trace:
        policy(given.trace)


if __name__ == "__main__":
    main()

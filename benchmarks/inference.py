"""Inference: our engine against llama.cpp on the same model, threads and machine.

    make peers AREA=inference     # once: builds llama.cpp natively
    make bench AREA=inference

Ours is timed through the engine, sampling included; the peer by its own tools, which do not sample.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import llamacpp
import numpy as np
from factory import start_factory
from harness import DATA, ROOT, Pairs, finish, in_turn, summary, wait_until_idle
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tokenworks.config import load
from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Executor, Span
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.messages import Generate, Sampling
from tokenworks.inference.models.library import Library
from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.text.gguf_text import codec_of_gguf
from tokenworks.telemetry.clock import MonotonicClock

PROMPT, DECODE = 512, 64
BATCH, BATCH_PROMPT, BATCH_DECODE = 16, 64, 32
WINDOW, WINDOWS = 512, 5
TEXT = DATA / "text" / "wikitext2_raw_test.txt"


class Ours:
    """The engine as a worker runs it, in this process."""

    def __init__(self, path: Path, threads: int, isa: str = "auto") -> None:
        settings = EngineSettings(
            model_path=str(path), model_id="bench", threads=threads, max_batch_tokens=PROMPT
        )
        executor = NativeExecutor(load_model(path), isa=isa, threads=threads, context_length=0)
        self.description = executor.description
        self._vocabulary = executor.vocabulary_size
        self._engine = Engine(executor, settings, MonotonicClock())
        self._random = np.random.default_rng(0)
        self._count = 0

    def decode_tps(self) -> float:
        """One sequence, from an almost empty context."""
        return self._answer_tps(1, 1, DECODE)

    def batch_tps(self) -> float:
        return self._answer_tps(BATCH, BATCH_PROMPT, BATCH_DECODE)

    def prefill_tps(self) -> float:
        self._submit(PROMPT, 1)
        start = time.perf_counter()
        self._finish()
        return PROMPT / (time.perf_counter() - start)

    def _answer_tps(self, sequences: int, prompt: int, tokens: int) -> float:
        """Output tokens per second of all, once every prompt is computed."""
        for _ in range(sequences):
            self._submit(prompt, tokens + 1)
        started: set[str] = set()
        while len(started) < sequences:
            step = self._engine.step()
            started |= {token.request_id for token in step.tokens} if step else set()
        start = time.perf_counter()
        produced = self._finish()
        return produced / (time.perf_counter() - start)

    def _submit(self, prompt: int, max_tokens: int) -> None:
        self._count += 1
        refused = self._engine.submit(
            Generate(
                request_id=str(self._count),
                prompt=self._random.integers(0, self._vocabulary, prompt).tolist(),
                sampling=Sampling(max_tokens=max_tokens, temperature=0.0),
            )
        )
        assert refused is None, refused

    def _finish(self) -> int:
        produced = 0
        while step := self._engine.step():
            produced += len(step.tokens)
        return produced


def measure_speed(
    path: Path, threads: int, rounds: int
) -> tuple[dict[str, Pairs], str, dict[str, str]]:
    """Pairs for each figure against llama.cpp's best 4-bit file; our executor; those files."""
    ours = Ours(path, threads)
    files = {"as shipped": path, "Q4_0": llamacpp.transcoded(path, "Q4_0")}
    peers = {name: llamacpp.Peer(file, threads) for name, file in files.items()}
    figures: dict[str, tuple[Callable[[], float], Callable[[llamacpp.Peer], float]]] = {
        "decode": (ours.decode_tps, lambda peer: peer.decode_tps(DECODE)),
        "prefill": (ours.prefill_tps, lambda peer: peer.prefill_tps(PROMPT)),
        "batch16": (
            ours.batch_tps,
            lambda peer: peer.batch_tps(BATCH, BATCH_PROMPT, BATCH_DECODE),
        ),
    }
    pairs, best_files = {}, {}
    for name, (our_figure, their_figure) in figures.items():
        our_figure()  # warm-up; the peer's tools warm up by themselves
        trial = {}
        for file, peer in peers.items():
            wait_until_idle()
            trial[file] = their_figure(peer)
        best = max(trial, key=lambda file: trial[file])
        best_files[name] = best
        note(f"{name}: llama.cpp {', '.join(f'{k} {v:.0f}' for k, v in trial.items())} tokens/s")
        pairs[name] = in_turn(rounds, our_figure, lambda: their_figure(peers[best]))  # noqa: B023
    return pairs, ours.description, best_files


def window_logits(executor: Executor, tokens: list[int]) -> NDArray[np.float32]:
    """Next-token logits of a window of text, computed as one prompt."""
    pages = np.arange(-(-len(tokens) // PAGE_TOKENS), dtype=np.int32)
    batch = Batch(
        tokens=np.array(tokens, np.int32),
        spans=(Span(start=0, length=len(tokens), pages=pages),),
        logit_rows=np.arange(len(tokens), dtype=np.int32),
    )
    return executor.forward(batch)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def divergence(base: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """KL(base ‖ other) of each row, in nats."""
    kl = np.empty(len(base))
    for at in range(0, len(base), 64):
        p, q = log_softmax(base[at : at + 64]), log_softmax(other[at : at + 64])
        kl[at : at + 64] = (np.exp(p) * (p - q)).sum(-1)
    return kl


def measure_quality(path: Path, threads: int, text: Path) -> dict[str, dict[str, float]]:
    """KL divergence from the shipped file in f32, of ours and of llama.cpp's files."""
    model: Model = load_model(path)
    oracle = ReferenceExecutor(model)
    native = NativeExecutor(model, isa="auto", threads=threads, context_length=0)
    for executor in (oracle, native):
        executor.allocate(WINDOW // PAGE_TOKENS)
    # 8 characters a token are more than any English text has.
    passage = text.read_text(encoding="utf-8")[: WINDOW * WINDOWS * 8]
    tokens = codec_of_gguf(model.gguf).encode(passage)[: WINDOW * WINDOWS]
    peers = {
        "llama.cpp Q4_0": llamacpp.Peer(llamacpp.transcoded(path, "Q4_0"), threads),
        "llama.cpp as shipped": llamacpp.Peer(path, threads),
    }
    rows: dict[str, list[NDArray[np.float64]]] = {"ours": [], **{name: [] for name in peers}}
    agree: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in rows}
    with tempfile.TemporaryDirectory() as scratch:
        for at in range(0, len(tokens), WINDOW):
            window = tokens[at : at + WINDOW]
            base = window_logits(oracle, window)
            for name in rows:
                mine = name == "ours"
                other = (
                    window_logits(native, window)
                    if mine
                    else peers[name].logits(window, Path(scratch))
                )
                rows[name].append(divergence(base, other))
                agree[name].append(base.argmax(-1) == other.argmax(-1))
            note(f"quality: {min(at + WINDOW, len(tokens))} of {len(tokens)} tokens")
    return {
        name: {
            "kl": float(np.concatenate(rows[name]).mean()),
            "kl_standard_error": float(np.concatenate(rows[name]).std() / len(tokens) ** 0.5),
            "kl_p99": float(np.quantile(np.concatenate(rows[name]), 0.99)),
            "same_top_token": float(np.concatenate(agree[name]).mean()),
            "tokens": len(tokens),
        }
        for name in rows
    }


def first_token_s() -> float:
    """From typing `tokenworks up` to the first streamed piece of an answer."""
    wait_until_idle()
    return start_factory(
        [Path(sys.executable).with_name("tokenworks"), "up", "--port", "0"]
    ).token_s


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(
    pairs: dict[str, Pairs], quality: dict[str, dict[str, float]], starts: list[float]
) -> None:
    table = Table("tokens/s", "ours", "llama.cpp", "ratio: median (min to max)")
    for name, pair in pairs.items():
        ours, theirs, ratio = (summary(v) for v in (pair.ours, pair.theirs, pair.ratios))
        spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        table.add_row(name, f"{ours['median']:.0f}", f"{theirs['median']:.0f}", spread)
    console = Console()
    console.print(table)
    table = Table("against the file in f32", "KL, nats", "± s.e.", "KL p99", "same top token")
    for name, row in quality.items():
        error = f"{row['kl_standard_error']:.5f}"
        figures = (f"{row['kl_p99']:.4f}", f"{row['same_top_token']:.1%}")
        table.add_row(name, f"{row['kl']:.5f}", error, *figures)
    console.print(table)
    print(f"start to first streamed token, warm: {summary(starts)['median']:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="Our inference against llama.cpp.")
    parser.add_argument("--install-peers", action="store_true", help="build the peer and stop")
    parser.add_argument("--model", default=None, help="name or GGUF file (the default model)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--text", type=Path, default=TEXT, help="text for the divergence")
    options = parser.parse_args()
    if options.install_peers:
        return llamacpp.install()
    if not llamacpp.installed():
        sys.exit("error: llama.cpp is not built\n\nhint: make peers AREA=inference")
    if not options.text.exists():
        sys.exit(f"error: no text at {options.text}\n\nhint: give a file with --text")
    config = load({"model": options.model} if options.model else {})
    path = Library(config.home).path(config.model)
    pairs, description, peer_files = measure_speed(path, options.threads, options.rounds)
    quality = measure_quality(path, options.threads, options.text)
    starts = [first_token_s() for _ in range(3)]
    show(pairs, quality, starts)
    keys = {
        f"{name}_ratio_vs_llamacpp": round(summary(pair.ratios)["median"], 3)
        for name, pair in pairs.items()
    }
    keys["t_first_token_warm_s"] = round(summary(starts)["median"], 2)
    keys["kl_vs_f32"] = round(quality["ours"]["kl"], 5)
    # That of the file whose speed was compared, and that of the very file that we run: another
    # 4-bit format is quantised twice, and what it loses by that is not the engine's doing.
    fastest = quality[f"llama.cpp {peer_files['decode']}"]
    keys["kl_vs_f32_llamacpp"] = round(fastest["kl"], 5)
    keys["kl_vs_f32_llamacpp_same_file"] = round(quality["llama.cpp as shipped"]["kl"], 5)
    details = {
        "executor": description,
        "peer": f"llama.cpp of llama-cpp-python {llamacpp.VERSION}, native build; "
        + ", ".join(dict.fromkeys(peer_files.values())),
        "tokens_per_s": {name: pair.record() for name, pair in pairs.items()},
        "quality": quality,
        "start_s": summary(starts),
        "model": path.name,
        "text": str(options.text.relative_to(ROOT.parent))
        if options.text.is_relative_to(ROOT.parent)
        else options.text.name,
    }
    finish("inference", keys, details)


if __name__ == "__main__":
    main()

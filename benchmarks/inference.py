"""Inference: our engine against llama.cpp, ik_llama.cpp, OpenVINO GenAI and transformers.

    make peers AREA=inference     # once: builds the first two natively
    make bench AREA=inference

Ours is timed through the engine, sampling included; the peer by its own tools, which do not sample.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ikllama
import llamacpp
import msgspec
import openvino_peer
from engine_runs import PROMPT, Ours
from factory import start_factory
from harness import DATA, ROOT, Pairs, finish, in_turn, summary, wait_until_idle
from naive import Naive
from rich.console import Console
from rich.table import Table

from tokenworks.cli.measurements import last_level_bytes
from tokenworks.config import load
from tokenworks.fleet.discover.machine import discover
from tokenworks.fleet.discover.measure import measure_limits
from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.library import Library
from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.quality import Comparison, window_logits
from tokenworks.inference.text.open import open_codec

DECODE = 64
BATCH, BATCH_PROMPT, BATCH_DECODE = 16, 64, 32
WINDOW, WINDOWS = 512, 5
TEXT = DATA / "text" / "wikitext2_raw_test.txt"


Figure = Callable[[Any], float]
FIGURES: dict[str, Figure] = {
    "decode": lambda side: side.decode_tps(DECODE),
    "prefill": lambda side: side.prefill_tps(PROMPT),
    "batch16": lambda side: side.batch_tps(BATCH, BATCH_PROMPT, BATCH_DECODE),
}


@dataclass(frozen=True)
class Speed:
    """Pairs against llama.cpp's best file and against the best peer of all; what each was."""

    llamacpp: Pairs
    best: Pairs
    llamacpp_name: str
    best_name: str
    trials: dict[str, float]


def peers_on(path: Path, threads: int) -> list[Any]:
    """Every peer with every file it may be best with. One that answers nonsense does not count."""
    q4_0 = llamacpp.transcoded(path, "Q4_0")
    found: list[Any] = [llamacpp.Peer(path, threads), llamacpp.Peer(q4_0, threads)]
    found += [ikllama.Peer(q4_0, threads, repack=repack) for repack in (True, False)]
    for file in (path, q4_0):
        peer = openvino_peer.Peer(file, threads)
        answer = peer.text()
        note(f"{peer.name} answers: {answer!r}")
        if "Paris" in answer:
            found.append(peer)
    return found


def measure_speed(ours: Ours, peers: list[Any], rounds: int) -> dict[str, Speed]:
    speeds = {}
    for name, figure in FIGURES.items():
        figure(ours)  # warm-up; the peers warm up by themselves
        trials = {}
        for peer in peers:
            wait_until_idle()
            trials[peer.name] = figure(peer)
        note(f"{name}: " + ", ".join(f"{k} {v:.0f}" for k, v in trials.items()))
        by_name = {peer.name: peer for peer in peers}
        best_name = max(trials, key=lambda peer: trials[peer])
        base_name = max(
            (peer for peer in trials if peer.startswith("llama.cpp")), key=lambda p: trials[p]
        )
        base, best = by_name[base_name], by_name[best_name]
        against = in_turn(rounds, lambda: figure(ours), lambda: figure(base))  # noqa: B023
        if best is base:
            speeds[name] = Speed(against, against, base_name, best_name, trials)
            continue
        others = in_turn(rounds, lambda: figure(ours), lambda: figure(best))  # noqa: B023
        speeds[name] = Speed(against, others, base_name, best_name, trials)
    return speeds


def measure_engine(ours: Ours) -> dict[str, float]:
    """How near to the machine's limits one sequence is computed."""
    wait_until_idle()
    machine = discover()
    limits = measure_limits(
        threads=machine.processors.usable_cores,
        cache_bytes=last_level_bytes(machine),
        memory_bytes=machine.memory.usable,
    )
    step, forward = ours.decode_step_s()
    read = ours.read_bytes(100) / limits.read_all_threads
    return {
        "decode_roofline_fraction": round(read / step, 3),
        "verify4_cost": round(ours.forward_s(4) / ours.forward_s(1), 3),
        "python_overhead_fraction": round((step - forward) / step, 4),
        "read_gb_per_s": round(limits.read_all_threads / 1e9, 1),
    }


def measure_quality(path: Path, threads: int, text: Path) -> dict[str, dict[str, float]]:
    """KL divergence from the shipped file in f32, of ours and of llama.cpp's files."""
    model: Model = load_model(path)
    oracle = ReferenceExecutor(model)
    native = NativeExecutor(model, isa="auto", threads=threads, context_length=0)
    for executor in (oracle, native):
        executor.allocate(WINDOW // PAGE_TOKENS)
    # 8 characters a token are more than any English text has.
    passage = text.read_text(encoding="utf-8")[: WINDOW * WINDOWS * 8]
    tokens = open_codec(path).encode(passage)[: WINDOW * WINDOWS]
    files = (llamacpp.transcoded(path, "Q4_0"), path)
    peers = {f"llama.cpp {llamacpp.encoding(file)}": llamacpp.Peer(file, threads) for file in files}
    found = {name: Comparison() for name in ("ours", *peers)}
    with tempfile.TemporaryDirectory() as scratch:
        for at in range(0, len(tokens), WINDOW):
            window = tokens[at : at + WINDOW]
            base = window_logits(oracle, window)
            found["ours"].add(base, window_logits(native, window))
            for name, peer in peers.items():
                found[name].add(base, peer.logits(window, Path(scratch)))
            note(f"quality: {min(at + WINDOW, len(tokens))} of {len(tokens)} tokens")
    return {name: msgspec.structs.asdict(one.quality()) for name, one in found.items()}


def first_token_s() -> float:
    """From typing `tokenworks up` to the first streamed piece of an answer."""
    wait_until_idle()
    return start_factory(
        [Path(sys.executable).with_name("tokenworks"), "up", "--port", "0"]
    ).token_s


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(
    speeds: dict[str, Speed],
    quality: dict[str, dict[str, float]],
    starts: list[float],
    naive: Pairs,
) -> None:
    table = Table("tokens/s", "peer", "ours", "theirs", "ratio: median (min to max)")
    rows = [(name, speed.llamacpp_name, speed.llamacpp) for name, speed in speeds.items()]
    rows += [(name, f"best: {speed.best_name}", speed.best) for name, speed in speeds.items()]
    rows += [("16 requests", "transformers, eager", naive)]
    for name, peer, pair in rows:
        ours, theirs, ratio = (summary(v) for v in (pair.ours, pair.theirs, pair.ratios))
        spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        table.add_row(name, peer, f"{ours['median']:.0f}", f"{theirs['median']:.0f}", spread)
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
    parser = argparse.ArgumentParser(description="Our inference against the community's engines.")
    parser.add_argument("--install-peers", action="store_true", help="build the peers and stop")
    parser.add_argument("--model", default=None, help="name or GGUF file (the default model)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--text", type=Path, default=TEXT, help="text for the divergence")
    options = parser.parse_args()
    if options.install_peers:
        for peer in (llamacpp, ikllama, openvino_peer):
            peer.install()
        return
    if not all(peer.installed() for peer in (llamacpp, ikllama, openvino_peer)):
        sys.exit("error: not every peer is built\n\nhint: make peers AREA=inference")
    if not options.text.exists():
        sys.exit(f"error: no text at {options.text}\n\nhint: give a file with --text")
    config = load({"model": options.model} if options.model else {})
    path = Library(config.home).path(config.model)
    ours = Ours(path, options.threads)
    speeds = measure_speed(ours, peers_on(path, options.threads), options.rounds)
    engine = measure_engine(ours)
    eager = Naive(path, options.threads)
    batch = FIGURES["batch16"]
    naive = in_turn(2, lambda: batch(ours), lambda: batch(eager))
    quality = measure_quality(path, options.threads, options.text)
    starts = [first_token_s() for _ in range(3)]
    show(speeds, quality, starts, naive)
    keys = {}
    for name, speed in speeds.items():
        keys[f"{name}_ratio_vs_llamacpp"] = round(summary(speed.llamacpp.ratios)["median"], 3)
        keys[f"{name}_ratio_vs_best_peer"] = round(summary(speed.best.ratios)["median"], 3)
    keys |= engine
    keys["naive_ratio"] = round(summary(naive.ratios)["median"], 1)
    keys["t_first_token_warm_s"] = round(summary(starts)["median"], 2)
    keys["kl_vs_f32"] = round(quality["ours"]["kl"], 5)
    # That of the file whose speed was compared, and that of the very file that we run: another
    # 4-bit format is quantised twice, and what it loses by that is not the engine's doing.
    chosen = speeds["decode"].llamacpp_name
    theirs = next(name for name in quality if name == chosen)
    keys["kl_vs_f32_llamacpp"] = round(quality[theirs]["kl"], 5)
    keys["kl_vs_f32_llamacpp_same_file"] = round(
        quality[f"llama.cpp {llamacpp.encoding(path)}"]["kl"], 5
    )
    keys["kl_ratio_vs_llamacpp"] = round(quality["ours"]["kl"] / quality[theirs]["kl"], 3)
    shipped = theirs == f"llama.cpp {llamacpp.encoding(path)}"
    file = path if shipped else llamacpp.transcoded(path, "Q4_0")
    keys["weight_bytes_ratio_vs_llamacpp"] = round(ours.weight_bytes / file.stat().st_size, 3)
    details = {
        "executor": ours.description,
        "peers": f"llama.cpp of llama-cpp-python {llamacpp.VERSION} and ik_llama.cpp of "
        f"ik-llama-cpp-python {ikllama.VERSION}, native builds; OpenVINO GenAI "
        f"{openvino_peer.VERSION}; transformers eager in float32",
        "tokens_per_s": {
            name: {
                "trials": speed.trials,
                speed.llamacpp_name: speed.llamacpp.record(),
                f"best: {speed.best_name}": speed.best.record(),
            }
            for name, speed in speeds.items()
        },
        "naive": naive.record(),
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

"""Tokens a second: ours against llama.cpp at its best and against the best peer of all.

Every peer is tried in every way it may be best in; those near the top once more. The best is then
measured in turn with us. Ours is timed through the engine, sampling included; the peers by their
own tools, of which only OpenVINO's samples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ikllama
import openvino_peer
from engine_runs import PROMPT
from harness import Pairs, in_turn, note, summary, wait_until_idle
from parts import Findings, Setup
from peers import Peers, peers_on
from rich.table import Table

import llamacpp

DECODE = 64
BATCH, BATCH_PROMPT, BATCH_DECODE = 16, 64, 32
LONG = 2048
NEAR, MOST_NEAR = 0.85, 3
"""Who reaches this share of the best in the first trial is tried again, so many at most."""

Figure = Callable[[Any], float]
FIGURES: dict[str, Figure] = {
    "decode": lambda side: side.decode_tps(DECODE),
    "prefill": lambda side: side.prefill_tps(PROMPT),
    "batch16": lambda side: side.batch_tps(BATCH, BATCH_PROMPT, BATCH_DECODE),
}
MORE_FIGURES: dict[str, Figure] = {
    "prefill of 64": lambda side: side.prefill_tps(64),
    f"prefill of {LONG}": lambda side: side.prefill_tps(LONG),
    f"decode after {LONG}": lambda side: side.decode_tps(DECODE // 2, LONG),
}
"""For the record, against llama.cpp alone."""
MORE_ROUNDS = 3
VERSIONS = (
    f"llama.cpp of llama-cpp-python {llamacpp.VERSION} and ik_llama.cpp of "
    f"ik-llama-cpp-python {ikllama.VERSION}, native builds; OpenVINO GenAI {openvino_peer.VERSION}"
)


@dataclass(frozen=True)
class Speed:
    """Pairs against llama.cpp at its best and against the best of all."""

    llamacpp: Pairs
    best: Pairs
    llamacpp_name: str
    best_name: str


def measure(setup: Setup, found: Findings) -> None:
    peers = peers_on(setup.path, setup.threads, has_sense=setup.has_sense)
    by_name = {peer.name: peer for peer in peers.all}
    trials = try_all(peers.all)
    for name, tried in trials.items():
        note(f"{name}{setup.suffix}: " + ", ".join(f"{k} {v:.0f}" for k, v in tried.items()))
    best = {name: max(tried, key=lambda peer: tried[peer]) for name, tried in trials.items()}
    base = {name: best_llamacpp(tried) for name, tried in trials.items()}
    speeds = {}
    for name, figure in FIGURES.items():
        figure(setup.ours)  # warm-up
        against_best = against_base = compared(setup, figure, by_name[best[name]])
        if base[name] != best[name]:
            against_base = compared(setup, figure, by_name[base[name]])
        speeds[name] = Speed(against_base, against_best, base[name], best[name])
    more = measure_more(setup, by_name, base)
    found.llamacpp_file = by_name[base["decode"]].model
    write_down(setup, found, peers, trials, speeds, more)


def try_all(peers: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Tokens a second by figure and peer."""
    trials: dict[str, dict[str, float]] = {name: {} for name in FIGURES}
    for peer in peers:
        for name, figure in FIGURES.items():
            wait_until_idle()
            trials[name][peer.name] = figure(peer)
        close(peer)
    for name, tried in trials.items():
        near = sorted((p for p in peers), key=lambda p: -tried[p.name])[:MOST_NEAR]
        limit = NEAR * max(tried.values())
        for peer in near:
            if tried[peer.name] >= limit:
                wait_until_idle()
                tried[peer.name] = max(tried[peer.name], FIGURES[name](peer))
            close(peer)
    return trials


def close(peer: Any) -> None:
    """End the process of a peer that keeps one."""
    if isinstance(peer, openvino_peer.Peer):
        peer.close()


def best_llamacpp(tried: Mapping[str, float]) -> str:
    ours = [name for name in tried if name.startswith("llama.cpp")]
    return max(ours, key=lambda name: tried[name])


def compared(setup: Setup, figure: Figure, peer: Any, rounds: int = 0) -> Pairs:
    try:
        return in_turn(rounds or setup.rounds, lambda: figure(setup.ours), lambda: figure(peer))
    finally:
        close(peer)


def measure_more(
    setup: Setup, by_name: Mapping[str, Any], base: Mapping[str, str]
) -> dict[str, tuple[str, Pairs]]:
    more = {}
    for name, figure in MORE_FIGURES.items():
        peer = by_name[base[name.split()[0]]]
        more[name] = (peer.name, compared(setup, figure, peer, MORE_ROUNDS))
    return more


def write_down(
    setup: Setup,
    found: Findings,
    peers: Peers,
    trials: Mapping[str, Mapping[str, float]],
    speeds: Mapping[str, Speed],
    more: Mapping[str, tuple[str, Pairs]],
) -> None:
    suffix = setup.suffix
    for name, speed in speeds.items():
        for whom, pairs in (("best_peer", speed.best), ("llamacpp", speed.llamacpp)):
            ratio = summary(pairs.ratios)["median"]
            found.keys[f"{name}_ratio_vs_{whom}{suffix}"] = round(ratio, 3)
    found.details[f"speed{suffix}"] = {
        "model": setup.path.name,
        "executor": setup.ours.description,
        "peers": VERSIONS,
        "llama.cpp loads": peers.buffers,
        "answers": peers.answers,
        "tokens_per_s": {
            name: {
                "trials": trials[name],
                speed.llamacpp_name: speed.llamacpp.record(),
                f"best: {speed.best_name}": speed.best.record(),
            }
            for name, speed in speeds.items()
        },
        "more": {name: {peer: pairs.record()} for name, (peer, pairs) in more.items()},
    }
    rows = [(name, speed.llamacpp_name, speed.llamacpp) for name, speed in speeds.items()]
    rows += [(name, f"best: {speed.best_name}", speed.best) for name, speed in speeds.items()]
    rows += [(name, peer, pairs) for name, (peer, pairs) in more.items()]
    found.tables.append(table_of(f"tokens/s, {setup.path.stem}", rows))


def table_of(title: str, rows: Sequence[tuple[str, str, Pairs]]) -> Table:
    table = Table(title, "peer", "ours", "theirs", "ratio: median (min to max)")
    for name, peer, pair in rows:
        ours, theirs, ratio = (summary(v) for v in (pair.ours, pair.theirs, pair.ratios))
        spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        table.add_row(name, peer, f"{ours['median']:.0f}", f"{theirs['median']:.0f}", spread)
    return table

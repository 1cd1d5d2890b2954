"""Inference: our engine against llama.cpp, ik_llama.cpp, OpenVINO GenAI and transformers.

make peers AREA=inference               # once: builds the first two natively
make bench AREA=inference               # all; or in two parts:
make bench AREA=inference SHARD=1/2     # the default model
make bench AREA=inference SHARD=2/2     # random weights, layers 2,048 wide, about 1 B of them
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import compression
import kv_cache
import limits
import peers
import quality
import speed
from factory import start_factory
from harness import DATA, Trial, finish, in_turn, note, summary, wait_until_idle
from naive import Naive
from parts import Findings, Setup
from rich.console import Console
from shapes import wide_model
from shards import chosen

from tokenworks.config import load
from tokenworks.inference.models.library import Library

TEXT = DATA / "text" / "wikitext2_raw_test.txt"
Part = Callable[[Setup, Findings], None]


def measure_naive(setup: Setup, found: Findings) -> None:
    eager, batch = Naive(setup.path, setup.threads), speed.FIGURES["batch16"]
    pairs = in_turn(2, lambda: batch(setup.ours), lambda: batch(eager))
    found.keys["naive_ratio"] = round(summary(pairs.ratios)["median"], 1)
    found.details["naive"] = {"peer": "transformers, eager, float32", **pairs.record()}
    rows = [("16 requests", "transformers, eager", pairs)]
    found.tables.append(speed.table_of("tokens/s", rows))


def measure_start(setup: Setup, found: Findings) -> None:
    """From typing `tokenworks up` to the first streamed piece of an answer."""
    command = [Path(sys.executable).with_name("tokenworks"), "up", "--port", "0"]
    starts = []
    for _ in range(3):
        wait_until_idle()
        starts.append(start_factory(command).token_s)
    found.keys["t_first_token_warm_s"] = round(summary(starts)["median"], 2)
    found.details["start_s"] = summary(starts)
    note(f"start to first streamed token, warm: {summary(starts)['median']:.2f} s")


# A further measurement is a function like these, in one of the two lists: what it puts into
# `found.keys` becomes keys of the result.
REAL: tuple[Part, ...] = (
    speed.measure,
    limits.measure,
    measure_naive,
    quality.measure,
    kv_cache.measure,
    compression.measure,
    measure_start,
)
WIDE: tuple[Part, ...] = (speed.measure, limits.measure)


def real_setup(options: argparse.Namespace) -> Setup:
    config = load({"model": options.model} if options.model else {})
    path = Library(config.home).path(config.model)
    return Setup(path, options.threads, options.rounds, options.text)


def wide_setup(options: argparse.Namespace) -> Setup:
    real = real_setup(options)
    path = wide_model(real.path)
    rounds = min(options.rounds, 5)
    return Setup(path, real.threads, rounds, real.text, suffix="_1b", has_sense=False)


SHARDS: Sequence[tuple[Callable[[argparse.Namespace], Setup], tuple[Part, ...]]] = (
    (real_setup, REAL),
    (wide_setup, WIDE),
)


def main() -> None:
    options = arguments()
    if options.install_peers:
        return peers.install()
    if not peers.installed():
        sys.exit("error: not every peer is built\n\nhint: make peers AREA=inference")
    if not options.text.exists():
        sys.exit(f"error: no text at {options.text}\n\nhint: give a file with --text")
    Trial.running = options.trial
    found = Findings()
    for number in shards_of(options):
        make_setup, parts = SHARDS[number]
        setup = make_setup(options)
        for part in parts:
            began = time.monotonic()
            part(setup, found)
            name = f"{part.__module__}.{part.__name__}{setup.suffix}"
            note(f"{name} took {time.monotonic() - began:.0f} s")
    for table in found.tables:
        Console().print(table)
    finish("inference", found.keys, found.details, options.shard or "all")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our inference against the community's engines.")
    parser.add_argument("--install-peers", action="store_true", help="build the peers and stop")
    parser.add_argument("--model", default=None, help="name or GGUF file (the default model)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--text", type=Path, default=TEXT, help="text for the divergence")
    shard = os.environ.get("SHARD", "")
    parser.add_argument("--shard", default=shard, help="i/n: one part (SHARD, or all)")
    about = "see whether all parts work: no record is kept, and the machine need not be idle"
    parser.add_argument("--trial", action="store_true", help=about)
    return parser.parse_args()


def shards_of(options: argparse.Namespace) -> list[int]:
    try:
        return chosen(options.shard, len(SHARDS))
    except ValueError as error:
        sys.exit(f"error: {error}\n\nhint: make bench AREA=inference SHARD=1/{len(SHARDS)}")


if __name__ == "__main__":
    main()

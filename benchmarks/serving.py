"""Serving: our server against llama-server and OpenVINO GenAI's continuous batching, over HTTP.

make peers AREA=serving                      # once: builds llama-server natively
make bench AREA=serving                      # all; or in four parts:
make bench AREA=serving SHARD=1/4            # short questions, shared prefixes
make bench AREA=serving SHARD=2/4            # many turns, agents
make bench AREA=serving SHARD=3/4            # edits, long prompts beside chats, and the rest
make bench AREA=serving SHARD=4/4            # with speculation against without

Texts are those of a folder (`--data`), or our own small samples without one. Answers end where the
model ends them, or at a limit; no server keeps whole answers.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import llamacpp_server
import mixed
import openvino_peer
import replay
import served_exactness
import served_naive
import served_speculation
import throughput
import workloads
from harness import DATA, Trial, finish, note
from rich.console import Console
from serving_parts import Findings, Setup
from serving_texts import read_texts
from shards import chosen

from tokenworks.config import load
from tokenworks.inference.models.library import Library

Part = Callable[[Setup, Findings], None]
FOLDER = DATA / "inference"


def of(*served: workloads.Workload) -> Part:
    return partial(throughput.measure, workloads=served)


# A further measurement is a function like these: what it puts into `found.keys` becomes keys of the
# result.
SHARDS: Sequence[tuple[Part, ...]] = (
    (of(workloads.UNIQUE_SHORT, workloads.SIMULTANEOUS, workloads.STAGGERED),),
    (of(workloads.MULTI_TURN, workloads.AGENT_LOOP),),
    (
        of(workloads.EDIT),
        mixed.measure,
        replay.measure,
        served_exactness.measure,
        served_naive.measure,
    ),
    (served_speculation.measure,),
)


def main() -> None:
    options = arguments()
    if options.install_peers:
        return install_peers()
    if not options.alone and not (llamacpp_server.installed() and openvino_peer.installed()):
        sys.exit("error: not every peer is built\n\nhint: make peers AREA=serving")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end too
    Trial.running = options.trial
    setup, found = setup_of(options), Findings()
    note(f"texts: {setup.texts.origin}")
    for number in shards_of(options):
        for part in SHARDS[number]:
            began = time.monotonic()
            part(setup, found)
            name = part.func.__module__ if isinstance(part, partial) else part.__module__
            note(f"{name} took {time.monotonic() - began:.0f} s")
    for table in found.tables:
        Console(width=150).print(table)
    finish("serving", found.keys, found.details, options.shard or "all", throughput.derived)


def install_peers() -> None:
    llamacpp_server.install()
    openvino_peer.install()


def setup_of(options: argparse.Namespace) -> Setup:
    config = load({"model": options.model} if options.model else {})
    try:
        texts = read_texts(options.data)
    except FileNotFoundError as error:
        sys.exit(
            f"error: {error.filename} is missing\n\nhint: another folder with --data, or --samples"
        )
    path = Library(config.home).path(config.model)
    peers = not options.alone
    return Setup(config.model, path, options.threads, options.rounds, texts, peers)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our server against the community's.")
    parser.add_argument("--install-peers", action="store_true", help="build the peers and stop")
    parser.add_argument("--model", default=None, help="name or GGUF file (the default model)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    folder = FOLDER if FOLDER.exists() else None
    about = "folder with MT-Bench, GSM8K, HumanEval and Mooncake's trace (else built-in samples)"
    parser.add_argument("--data", type=Path, default=folder, help=about)
    about = "the built-in samples, even if there is a folder"
    parser.add_argument("--samples", dest="data", action="store_const", const=None, help=about)
    shard = os.environ.get("SHARD", "")
    parser.add_argument("--shard", default=shard, help="i/n: one part (SHARD, or all)")
    parser.add_argument("--alone", action="store_true", help="our server only: no ratios")
    about = "see whether all parts work: no record is kept, and the machine need not be idle"
    parser.add_argument("--trial", action="store_true", help=about)
    return parser.parse_args()


def shards_of(options: argparse.Namespace) -> list[int]:
    try:
        return chosen(options.shard, len(SHARDS))
    except ValueError as error:
        sys.exit(f"error: {error}\n\nhint: make bench AREA=serving SHARD=1/{len(SHARDS)}")


if __name__ == "__main__":
    main()

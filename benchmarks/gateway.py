"""The gateway: what it adds to a request, beside LiteLLM too; whether budgets and labels hold; how
well it finds private data; whether answers survive their backends; what its router saves.

make peers AREA=gateway                      # once: Presidio's recognisers, LiteLLM's proxy
make bench AREA=gateway                      # all; or in four parts:
make bench AREA=gateway SHARD=1/4            # what it adds to a request
make bench AREA=gateway SHARD=2/4            # budgets, finding private data, routing by quality
make bench AREA=gateway SHARD=3/4            # labels, streams that break off
make bench AREA=gateway SHARD=4/4            # requests a second, LiteLLM's proxy beside it
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import litellm_peer
import presidio_peer
from gateway_budgets import budget_overruns
from gateway_leaks import label_leaks
from gateway_litellm import litellm_figures
from gateway_midstream import midstream_failover
from gateway_overhead import overhead
from gateway_privacy import privacy_figures
from gateway_routing import routing_figures
from harness import DATA, Trial, finish, note, wait_until_idle
from rich.console import Console
from rich.table import Table
from shards import chosen

Found = tuple[dict[str, float], Mapping[str, Any]]
"""Keys of the result, and what they are made of."""


def added() -> Found:
    return overhead(1, requests=1000) if Trial.running else overhead()


def budgets() -> Found:
    found = budget_overruns(2, 20) if Trial.running else budget_overruns()
    return picked(found, "budget_overruns"), found


def privacy() -> Found:
    found = privacy_figures(DATA / "gateway", 1 if Trial.running else 7)
    return picked(found, "pii_f1_ratio_vs_presidio", "pii_speed_ratio_vs_presidio"), found


def routing() -> Found:
    found = routing_figures(DATA / "gateway")
    return picked(found, "router_cost_vs_random", "router_quality_at_setting"), found


def labels() -> Found:
    found = label_leaks(20 if Trial.running else 2000)
    return picked(found, "label_leaks"), found


def midstream() -> Found:
    found = midstream_failover(10 if Trial.running else 500)
    return {f"midstream_failover.{name}": one["rate"] for name, one in found.items()}, found


def litellm() -> Found:
    found = litellm_figures(1, 3.0) if Trial.running else litellm_figures()
    return picked(found, "requests_per_s_ratio_vs_litellm"), found


def picked(found: Mapping[str, Any], *names: str) -> dict[str, float]:
    return {name: found[name] for name in names}


Part = Callable[[], Found]
SHARDS: Sequence[Mapping[str, Part]] = (
    {"overhead": added},
    {"budgets": budgets, "privacy": privacy, "routing": routing},
    {"labels": labels, "midstream": midstream},
    {"litellm": litellm},
)
PEERS = {"privacy": presidio_peer, "litellm": litellm_peer}


def main() -> None:
    options = arguments()
    if options.install_peers:
        for peer in PEERS.values():
            peer.install()
        return
    Trial.running = options.trial
    parts = parts_of(options)
    if missing := [name for name in parts if name in PEERS and not PEERS[name].installed()]:
        sys.exit(f"error: the peer of {missing[0]} is not there\n\nhint: make peers AREA=gateway")
    keys: dict[str, float] = {}
    details: dict[str, Any] = {}
    for name, part in parts.items():
        wait_until_idle()
        began = time.monotonic()
        bars, details[name] = part()
        keys |= bars
        note(f"{name} took {time.monotonic() - began:.0f} s")
    table = Table("what", "measured")
    for name, value in keys.items():
        table.add_row(name, f"{value:g}")
    Console().print(table)
    finish("gateway", keys, details, options.only or options.shard or "all")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The gateway's bars.")
    parser.add_argument("--install-peers", action="store_true", help="install the peers and stop")
    shard = os.environ.get("SHARD", "")
    parser.add_argument("--shard", default=shard, help="i/n: one part (SHARD, or all)")
    parser.add_argument("--only", default="", help="one thing of it, by its name in the record")
    about = "see whether all parts work: no record is kept, and the machine need not be idle"
    parser.add_argument("--trial", action="store_true", help=about)
    return parser.parse_args()


def parts_of(options: argparse.Namespace) -> dict[str, Part]:
    try:
        shards = [SHARDS[number] for number in chosen(options.shard, len(SHARDS))]
    except ValueError as error:
        sys.exit(f"error: {error}\n\nhint: make bench AREA=gateway SHARD=1/{len(SHARDS)}")
    parts = {name: part for shard in shards for name, part in shard.items()}
    if options.only and options.only not in parts:
        sys.exit(f"error: there is no {options.only!r}\n\nhint: one of {', '.join(parts)}")
    return {options.only: parts[options.only]} if options.only else parts


if __name__ == "__main__":
    main()

"""Requests a second through our gateway and through LiteLLM's proxy, before one instant backend.

    python gateway_litellm.py [--rounds N] [--seconds S] [--trial]

A closed loop of 50 clients that stream, and besides one of clients that do not. Ours has all on: a
key with rate limits, budgets of the tenant and the key, labels, detectors in every text, the
ledger. LiteLLM has none of these here (`litellm_peer` says why), and runs in whichever way was
fastest in a round before. Both have the machine to themselves while they are measured.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import litellm_peer
from gateway_overhead import BODY, HERE, setup
from harness import Pairs, Trial, in_turn, note, wait_until_idle
from litellm_peer import Way

CLIENTS = 50
WAYS = (Way(1), Way(2), Way(1, "granian"), Way(2, "granian"))
FEATURES = {
    "ours": "key with rate limits, budgets of tenant and key, labels, detectors, ledger, policies",
    "theirs": "one master key; no budget, rate limit, spend log or guardrail",
}


@dataclass(frozen=True)
class Asked:
    """Whom the load asks."""

    url: str
    key: str


def litellm_figures(rounds: int = 5, seconds: float = 6.0) -> dict[str, Any]:
    """`requests_per_s_ratio_vs_litellm`, and what it is made of."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        at = stack.enter_context(setup(gap_ms=0.0))
        backend = urlsplit(at.direct).port or 0
        ceiling = per_s(Asked(at.direct, "none"), folder, seconds)
        tried = _fastest(folder, backend, seconds / 2)
        best = max(WAYS, key=lambda way: tried[way.name])
        note(f"LiteLLM: {tried}; backend alone: {ceiling:.0f} requests a second")
        theirs = stack.enter_context(litellm_peer.running(folder, backend, best))
        ours = Asked(at.through, at.key)
        peer = Asked(f"{theirs.url}/v1/chat/completions", theirs.key)
        streamed = _pairs(ours, peer, folder, rounds, seconds, stream=True)
        whole = _pairs(ours, peer, folder, rounds, seconds, stream=False)
    record = streamed.record()
    return {
        "requests_per_s_ratio_vs_litellm": record["ratio"]["median"],  # type: ignore[index]
        "streamed": record,
        "not_streamed": whole.record(),
        "backend_alone_per_s": ceiling,
        "litellm_ways_per_s": tried,
        "litellm_way": best.name,
        "litellm_version": litellm_peer.VERSION,
        "litellm_pins_relaxed": litellm_peer.RELAXED,
        "features": FEATURES,
        "clients": CLIENTS,
    }


def _fastest(folder: Path, backend: int, seconds: float) -> dict[str, float]:
    """Requests a second of LiteLLM in each way, streamed, once it is warm."""
    found = {}
    for way in WAYS[:1] if Trial.running else WAYS:
        with litellm_peer.running(folder, backend, way) as it:
            asked = Asked(f"{it.url}/v1/chat/completions", it.key)
            per_s(asked, folder, seconds / 2)
            wait_until_idle()
            found[way.name] = per_s(asked, folder, seconds)
    return {way.name: found.get(way.name, 0.0) for way in WAYS}


def _pairs(
    ours: Asked, theirs: Asked, folder: Path, rounds: int, seconds: float, *, stream: bool
) -> Pairs:
    for one in (ours, theirs):  # warm
        per_s(one, folder, seconds / 3, stream=stream)
    pairs = in_turn(
        rounds,
        lambda: per_s(ours, folder, seconds, stream=stream),
        lambda: per_s(theirs, folder, seconds, stream=stream),
    )
    note(f"stream {stream}: ours {pairs.ours}, LiteLLM {pairs.theirs}")
    return pairs


def per_s(asked: Asked, folder: Path, seconds: float, *, stream: bool = True) -> float:
    """Answers a second. Exits with what was said if any failed."""
    body = folder / "asked.json"
    body.write_text(json.dumps({**BODY, "stream": stream}))
    command = [sys.executable, HERE / "gateway_load.py", asked.url, "--body", body]
    how = ["--key", asked.key, "--clients", str(CLIENTS), "--seconds", str(seconds)]
    answer = subprocess.run([*command, *how], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(answer.stdout)
    if found["failures"]:
        sys.exit(f"error: {found['failures']} requests failed: {found['heads'][:1]}")
    return float(found["per_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--trial", action="store_true", help="on a machine that is not idle")
    options = parser.parse_args()
    Trial.running = options.trial
    print(json.dumps(litellm_figures(options.rounds, options.seconds), indent=2))


if __name__ == "__main__":
    main()

"""Every peer in every way it may be best in: files, attention, instruction sets, settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ikllama
import openvino_peer
from harness import Trial, note

import llamacpp


class Peer(Protocol):
    """An engine on a model file. Figures are tokens per second."""

    @property
    def name(self) -> str: ...
    def decode_tps(self, tokens: int, context: int = 0) -> float: ...
    def prefill_tps(self, tokens: int) -> float: ...
    def batch_tps(self, sequences: int, prompt: int, tokens: int) -> float: ...


@dataclass(frozen=True)
class Peers:
    """All that count; `buffers` is where llama.cpp says it put a file's weights."""

    all: list[Any]
    buffers: dict[str, list[str]]
    answers: dict[str, str]


def install() -> None:
    for peer in (llamacpp, ikllama, openvino_peer):
        peer.install()


def installed() -> bool:
    return all(peer.installed() for peer in (llamacpp, ikllama, openvino_peer))


def peers_on(path: Path, threads: int, *, has_sense: bool) -> Peers:
    """Those on a model. One that answers nonsense does not count; where the weights are random
    (`has_sense` False) there is no answer to judge by."""
    q4_0 = llamacpp.transcoded(path, "Q4_0")
    # The file of random weights is in Q4_0 itself, but for its head.
    files = (path, q4_0) if has_sense else (path, q4_0, llamacpp.transcoded(path, "Q4_1"))
    found: list[Any] = [*_llamacpp(files, threads), *_ikllama(files, threads)]
    answers = {}
    # It computes with the same weights of either file; one is enough where loading takes long.
    for file in (path, q4_0) if has_sense else (path,):
        if has_sense:
            plain = openvino_peer.Peer(file, threads)
            answers[plain.name] = plain.text()
            plain.close()
            note(f"{plain.name} answers: {answers[plain.name]!r}")
            if "Paris" not in answers[plain.name]:
                continue
        found += [openvino_peer.Peer(file, threads, way) for way in openvino_peer.WAYS]
    buffers = {peer.name: peer.buffers() for peer in _llamacpp(files, threads) if peer.flash}
    if Trial.running:
        found = list({type(peer): peer for peer in found}.values())
    return Peers(found, buffers, answers)


def _llamacpp(files: tuple[Path, ...], threads: int) -> Iterator[llamacpp.Peer]:
    for file in files:
        for flash in (True, False):
            yield llamacpp.Peer(file, threads, flash=flash)


def _ikllama(files: tuple[Path, ...], threads: int) -> Iterator[ikllama.Peer]:
    for file in files:
        for repack in (True, False):
            yield ikllama.Peer(file, threads, repack=repack)

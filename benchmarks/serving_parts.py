"""What every part of the serving benchmark is given, and where it puts what it found."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import llamacpp_server
import openvino_server
import servers
from harness import Trial
from http_load import Answer
from repeats import repeated_share
from rich.table import Table
from servers import Server
from serving_texts import Texts
from workloads import CLIENTS

import llamacpp
from tokenworks.inference.models.model import load_model
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.open import open_codec


@dataclass
class Setup:
    """One model to serve. `model` is what `tokenworks up` is given; without `peers`, our server is
    measured alone, and there are no ratios."""

    model: str
    path: Path
    threads: int
    rounds: int
    texts: Texts
    peers: bool

    @cached_property
    def codec(self) -> TextCodec:
        return open_codec(self.path)

    @cached_property
    def context_length(self) -> int:
        return load_model(self.path).config.context_length

    @property
    def ours(self) -> Server:
        return servers.ours(self.model, self.threads)

    @property
    def ours_without_speculation(self) -> Server:
        return servers.ours(self.model, self.threads, "--speculation", "off")

    def llamacpp(self, *ways: str) -> list[Server]:
        """On the file it is fastest with."""
        if not self.peers:
            return []
        file = llamacpp.transcoded(self.path, "Q4_0")
        tokens = llamacpp_server.kv_tokens(self._kv_bytes)
        tried = ways[:1] if Trial.running else ways
        return [llamacpp_server.server(file, self.threads, CLIENTS, tokens, way) for way in tried]

    def openvino(self) -> list[Server]:
        if not self.peers:
            return []
        file = llamacpp.transcoded(self.path, "Q4_0")
        tried = list(openvino_server.WAYS)[: 1 if Trial.running else None]
        return [openvino_server.server(file, self.threads, CLIENTS, way) for way in tried]

    @property
    def _kv_bytes(self) -> int:
        """Of a token, in 16 bits, which is what llama-server keeps by default."""
        config = load_model(self.path).config
        return 2 * 2 * config.layers * config.kv_heads * config.head_dim

    def repeated(self, answers: list[Answer]) -> float:
        return repeated_share(self.codec.encode(answer.text) for answer in answers)


@dataclass
class Findings:
    """Filled by one part after the other."""

    keys: dict[str, float] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)

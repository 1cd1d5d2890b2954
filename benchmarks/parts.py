"""What every part of the inference benchmark is given, and where it puts what it found."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from engine_runs import Ours
from rich.table import Table


@dataclass
class Setup:
    """One model to measure on. `suffix` is added to the names of keys and details."""

    path: Path
    threads: int
    rounds: int
    text: Path
    suffix: str = ""
    has_sense: bool = True
    """Whether its answers can be judged: random weights have none."""

    @cached_property
    def ours(self) -> Ours:
        return Ours(self.path, self.threads)


@dataclass
class Findings:
    """Filled by one part after the other."""

    keys: dict[str, float] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    llamacpp_file: Path | None = None
    """The file with which llama.cpp decodes fastest."""

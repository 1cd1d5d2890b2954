"""How the model store tells its caller what it is doing."""

from typing import Literal, Protocol

Phase = Literal[
    "waiting", "downloading", "extracting", "copying", "checking", "weighing", "compressing"
]


class Progress(Protocol):
    """Called now and then while a model is pulled. "waiting" is for another process's pull."""

    def __call__(self, phase: Phase, done_bytes: int, total_bytes: int | None) -> None: ...


def silent(phase: Phase, done_bytes: int, total_bytes: int | None) -> None:
    """A Progress that tells nobody."""

"""Tokenizers that are on this machine: text to tokens and back, and nothing is sent anywhere."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from tokenworks.errors import RequestError
from tokenworks.gateway.backend import Completion
from tokenworks.gateway.placed import Placed


@runtime_checkable
class Tokenizes(Protocol):
    """A backend that has the tokenizer of its model here."""

    async def tokenize(self, request: Completion, *, begin: bool = True) -> list[int]:
        """The tokens of a prompt or a chat; without `begin` a prompt has none that begin a text."""
        ...

    async def detokenize(self, tokens: list[int]) -> tuple[str, list[str]]:
        """The text of tokens, and of each by itself."""
        ...


def tokenizer_of(placed: Sequence[Placed], model: str) -> tuple[Tokenizes, int]:
    """The tokenizer of a served model, and how many tokens its prompt and answer may have (0: not
    known). Raises RequestError where only backends elsewhere have it."""
    for one in placed:
        if one.serves(model) and isinstance(one.backend, Tokenizes):
            return one.backend, one.length()
    elsewhere = ", ".join(one.name for one in placed if one.serves(model))
    raise RequestError(
        f"The tokenizer of {model!r} is not on this machine, and texts are not sent elsewhere to "
        f"count their tokens (it is served by {elsewhere})",
        hint="ask for a model of this machine's engine, or read an answer's usage",
        param="model",
    )

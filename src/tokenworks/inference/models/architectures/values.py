"""Typed access to what a model file says of itself, whatever kind of file it is."""

import math
from collections.abc import Callable
from pathlib import Path

from tokenworks.errors import ModelFileError

Lookup = Callable[[str], tuple[str, object]]
MOST = 2**31 - 1
"""Of any size: what the kernels count with."""


def shown(value: object) -> str:
    """A value out of a model file, as an error may show it: it can be of any length."""
    return repr(value)[:80]


class Values:
    """Settings by GGUF's names without the architecture (`attention.head_count`).

    `lookup` tells how the file spells a key and its value there, None if it has none. Every error
    is a ModelFileError that names the file and its own key.
    """

    def __init__(self, path: Path, lookup: Lookup) -> None:
        self._path = path
        self._lookup = lookup

    def has(self, name: str) -> bool:
        return self._lookup(name)[1] is not None

    def size(self, name: str, *, default: int | None = None, least: int = 1) -> int:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
            raise self._wrong(name, f"a whole number from {least} to {MOST}")
        return value

    def number(self, name: str, *, default: float | None = None) -> float:
        value = self._value(name, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 < value < math.inf
        ):
            raise self._wrong(name, "a positive number")
        return float(value)

    def text(self, name: str, *, default: str | None = None) -> str:
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "text")
        return value

    def flag(self, name: str) -> bool:
        """False where the file does not say."""
        value = self._value(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Empty where the file does not say."""
        value = self._value(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "a list of texts")
        return tuple(value)

    def choice(self, name: str, supported: tuple[str, ...], *, default: str) -> str:
        """One of `supported`; anything else is refused, by name."""
        value = self.text(name, default=default)
        if value not in supported:
            raise self.error(
                f"{self.key(name)} {shown(value)} is not supported",
                hint=f"supported: {', '.join(supported)}",
            )
        return value

    def refuse(self, name: str, what: str, *, unless: object = False) -> None:
        """Raise if the file sets this to anything that would change the numbers."""
        value = self._lookup(name)[1]
        if value and value != unless:
            said = "" if value is True else f" ({self.key(name)} {str(value)[:80]})"
            raise self.error(f"{what} is not supported{said}")

    def key(self, name: str) -> str:
        """How the file spells this setting."""
        return self._lookup(name)[0]

    def error(self, problem: str, *, hint: str | None = None) -> ModelFileError:
        return ModelFileError(f"Model file '{self._path}': {problem}", hint=hint)

    def _value(self, name: str, default: object) -> object:
        value = self._lookup(name)[1]
        return default if value is None else value

    def _wrong(self, name: str, wanted: str) -> ModelFileError:
        key, value = self._lookup(name)
        if value is None:
            return self.error(f"metadata {key!r} is missing")
        return self.error(f"metadata {key!r} is {shown(value)}, not {wanted}")

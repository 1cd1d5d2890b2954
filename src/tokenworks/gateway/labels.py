"""How secret data is. A label follows the data and only ever rises."""

from enum import IntEnum
from typing import Final

from tokenworks.errors import RequestError


class Label(IntEnum):
    """Ordered: whoever may see a label may see those below it. Join two by `max`."""

    PUBLIC = 0
    INTERNAL = 1
    PRIVATE = 2
    SECRET = 3

    @property
    def word(self) -> str:
        return self.name.lower()


LABELS: Final = {label.word: label for label in Label}


def label_of(word: str, *, param: str | None = None) -> Label:
    """The label that `word` names. Raises RequestError naming the four there are."""
    found = LABELS.get(word.strip().lower())
    if found is None:
        raise RequestError(f"{word[:40]!r} is no label; there are {', '.join(LABELS)}", param=param)
    return found

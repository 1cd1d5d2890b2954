"""Checks the normalizer and pre-tokenizer of a tokenizer.json before they touch any text.

A hostile one could make a long text of a short one: the memory that encoding takes must stay in
proportion to the text.
"""

import base64
from collections import deque
from collections.abc import Iterator
from typing import Final

MAX_GROWTH: Final = 256
"""Characters that one character may become. Real files stay below 10."""

MAX_PREFIX_CHARACTERS: Final = 64
MAX_STEPS: Final = 64


def check_steps(*parts: object) -> None:
    """Raises ValueError for steps that could make a text grow beyond all proportion."""
    growth, count = 1, 0
    for step in (step for part in parts for step in nodes(part)):
        growth *= _growth(step)
        count += "type" in step
        if growth > MAX_GROWTH or count > MAX_STEPS:
            raise ValueError("its normalizer and pre-tokenizer could make a text grow without end")


def nodes(part: object) -> Iterator[dict[str, object]]:
    """Every object within, outer ones first."""
    waiting = deque([part])
    while waiting:
        node = waiting.popleft()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _growth(step: dict[str, object]) -> int:
    """How many characters one may become."""
    kind = step.get("type")
    if kind == "Replace":
        content, pattern = step.get("content"), step.get("pattern")
        length = len(content) if isinstance(content, str) else 1
        literal = isinstance(pattern, dict) and bool(pattern.get("String"))
        return max(1, length) if literal else 1 + length
    if kind == "Prepend":
        prefix = step.get("prepend")
        short = isinstance(prefix, str) and len(prefix) <= MAX_PREFIX_CHARACTERS
        return 1 if short else MAX_GROWTH + 1
    if kind == "Precompiled":
        return _longest_replacement(step.get("precompiled_charsmap"))
    return 2 if kind == "ByteLevel" else 1


def _longest_replacement(charsmap: object) -> int:
    """Replacements are strings that end with a zero byte, after a table of known length."""
    if not isinstance(charsmap, str):
        return 1
    data = base64.b64decode(charsmap)
    replacements = data[4 + int.from_bytes(data[:4], "little") :]
    return max(map(len, replacements.split(b"\0")))

"""Keeps what people write from becoming control tokens when a chat template prints it.

Before rendering, a mark (a character that occurs in no message) is put after every character of the
messages with which a control token could begin; control tokens are then found in the rendering, and
the marks removed. Templates may trim, join and compare the messages as they like: text that
came from a message cannot spell a control token, not even in pieces that the template joins.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from tokenworks.errors import RequestError

MAX_NESTING = 32

# Plane 15 is for private use and no text has all of it.
_CANDIDATES = range(0xF0000, 0xFFFFE)


class Marker:
    """Marks messages. `control` are the control tokens' texts, `literals` the template's strings.

    A literal that the template may look for in a message (`</think>`) is left as it is, unless
    it could be a part of a control token.
    """

    def __init__(self, control: Iterable[str], literals: Iterable[str]) -> None:
        control = sorted(control)
        firsts = {token[0] for token in control}
        kept = [text for text in literals if text[:1] in firsts and not _touches(text, control)]
        alternatives = [re.escape(text) for text in sorted(kept, key=len, reverse=True)]
        anything = f"[{re.escape(''.join(sorted(firsts)))}]" if firsts else "(?!)"
        self._pattern = re.compile(f"({'|'.join(alternatives) or '(?!)'})|{anything}")

    def mark(
        self, messages: Sequence[Mapping[str, object]]
    ) -> tuple[list[Mapping[str, object]], str]:
        """The messages with every dangerous character marked, and the mark itself."""
        mark = _unused_character(messages)

        def marked(text: str) -> str:
            return self._pattern.sub(lambda m: m[0] if m[1] else m[0] + mark, text)

        return [_map_mapping(marked, message, MAX_NESTING) for message in messages], mark


def _touches(text: str, control: Iterable[str]) -> bool:
    """Whether a control token may begin within the text."""
    tails = [text[start:] for start in range(len(text))]
    return any(
        token.startswith(tail) or tail.startswith(token) for token in control for tail in tails
    )


def _unused_character(messages: Sequence[Mapping[str, object]]) -> str:
    used: set[str] = set()

    def collect(text: str) -> str:
        used.update(character for character in text if character >= "\U000f0000")
        return text

    for message in messages:
        _map_mapping(collect, message, MAX_NESTING)
    for candidate in _CANDIDATES:
        if chr(candidate) not in used:
            return chr(candidate)
    raise RequestError("The messages use every private-use character", param="messages")


def _map_mapping(
    change: Callable[[str], str], value: Mapping[str, object], depth: int
) -> dict[str, object]:
    return {change(key): _map_strings(change, item, depth) for key, item in value.items()}


def _map_strings(change: Callable[[str], str], value: object, depth: int) -> object:
    if isinstance(value, str):
        return change(value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    if depth == 0:
        raise RequestError(f"A message nests deeper than {MAX_NESTING} levels", param="messages")
    if isinstance(value, Mapping):
        return _map_mapping(change, value, depth - 1)
    return [_map_strings(change, item, depth - 1) for item in value]

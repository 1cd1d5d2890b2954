"""What an error shows of a request: enough to find the mistake, and nothing of what was said.

Errors are logged by clients, pasted into tickets and sent on by proxies. So they show numbers and
single short words, as a wrong value of a parameter is; of all else what kind of thing it is. Pure.
"""

import re
from typing import Final

_WORD: Final = re.compile(r"[A-Za-z0-9_-]{1,20}")
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def shown(value: object) -> str:
    """A value, or what kind of value it is."""
    if value is None or isinstance(value, bool | int | float):
        text = str(value)
        return text if len(text) <= 24 else "a long number"
    if isinstance(value, str):
        return repr(value) if _WORD.fullmatch(value) else f"a text of {len(value)} characters"
    return "a list" if isinstance(value, list | tuple) else "an object"


def shown_name(name: object) -> str:
    """A field's name, which may be any text; `…` for one that no API has."""
    text = str(name)
    return text if _NAME.fullmatch(text) else "…"

"""Hides what must not be shown in settings that people paste into bug reports."""

import re

_IN_URL = re.compile(r"(?<=://)[^/@\s']+(?=@)")
_NAMED = re.compile(r"(?i)((?:token|password|secret|api[_-]?key)[\w-]*\s*[=:]\s*)\S+")


def mask(text: str) -> str:
    """`https://user:word@host` becomes `https://***@host`; `TOKEN=abc` becomes `TOKEN=***`."""
    return _NAMED.sub(r"\1***", _IN_URL.sub("***", text))

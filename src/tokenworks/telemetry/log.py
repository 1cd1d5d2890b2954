"""One line per fact on stderr, with the request it belongs to, and never a secret.

Modules write to `logging.getLogger(__name__)`; only the command line calls `set_up`.
"""

import logging
import re
import sys
from contextvars import ContextVar
from typing import TextIO

from tokenworks.telemetry import trace

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request being served by the current task, "" outside of one."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Ends a line, or drives the terminal that shows it."""

_SECRETS = re.compile(
    r"(?i)(?P<name>\bbearer\s+|\bapi[-_]?key\s*[=:]\s*)[^\s,;'\"]+"
    r"|(?P<scheme>\b\w+://)[^/\s:@]*:[^/\s@]*@"
)


def _mask(match: re.Match[str]) -> str:
    return f"{match['name']}***" if match["name"] else f"{match['scheme']}***@"


class LineFormatter(logging.Formatter):
    """`09:41:07 warning gateway.engine: text request=…`; a traceback follows on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("tokenworks.")
        text = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], record.getMessage())
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower()} {name}: {text}"
        if current := request_id.get():
            line += f" request={current}"
        if span := trace.current.get():
            line += f" trace={span.trace_id}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return _SECRETS.sub(_mask, line)


def set_up(level: str = "info", stream: TextIO | None = None) -> None:
    """Send the program's log to `stream` (stderr by default). Calling it again replaces the first.

    `level` is one of debug, info, warning, error.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger("tokenworks")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False

"""W3C trace context: which trace a request belongs to, and the span ids that we add to it.

Follows "Trace Context" (W3C Recommendation, 2021), sections 2.2, 3.2 and 3.3, and of its Level 2
the flag for random ids. Pure: what is not as the standard says is not passed on.
"""

import re
import secrets
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

Draw = Callable[[int], int]
"""So many random bits."""

MOST_STATE: Final = 512
"""Characters of a tracestate that are passed on: as many as everybody must be able to."""

MOST_MEMBERS: Final = 32
_SAMPLED: Final = 0x01
_RANDOM: Final = 0x02
_PARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?"
)
_KEY: Final = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_VALUE: Final = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER: Final = re.compile(rf"({_KEY})={_VALUE}")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span's place in a trace. `parent_id` is the span above it, empty for the first of a trace.

    `trace_id` has 32 hexadecimal digits, a span's id 16. `state` is what came with it for others
    than us, to be passed on as it is.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    flags: int = 0
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Whether whoever began the trace records it."""
        return bool(self.flags & _SAMPLED)

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    def child(self, draw: Draw = secrets.randbits) -> "TraceContext":
        """A new span below this one."""
        return TraceContext(self.trace_id, _id(16, draw), self.span_id, self.flags, self.state)


current: ContextVar[TraceContext | None] = ContextVar("trace", default=None)
"""Our span of the request that the current task serves; None where nobody traces it."""


def begun(*, sampled: bool, draw: Draw = secrets.randbits) -> TraceContext:
    """The first span of a new trace."""
    return TraceContext(_id(32, draw), _id(16, draw), flags=_RANDOM | sampled)


def accepted(
    parents: Sequence[str],
    states: Sequence[str],
    *,
    recording: bool,
    draw: Draw = secrets.randbits,
) -> TraceContext | None:
    """Our span of a request with these headers `traceparent` and `tracestate`.

    A malformed parent, or more than one, begins a new trace. So does none at all where we are
    `recording`; else that request is traced by nobody, and None.
    """
    if not parents:
        return begun(sampled=True, draw=draw) if recording else None
    above = _parsed(parents[0].strip()) if len(parents) == 1 else None
    if above is None:
        return begun(sampled=recording, draw=draw)
    trace_id, span_id, flags = above
    return TraceContext(trace_id, _id(16, draw), span_id, flags, state_of(states))


def state_of(states: Sequence[str]) -> str:
    """The members of all `tracestate` headers in one; empty if any of them is malformed.

    Members at the end that are too many or too long are left out, as the standard allows.
    """
    members = [member.strip(" \t") for state in states for member in state.split(",")]
    members = [member for member in members if member]  # empty ones are allowed, and say nothing
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = [match[1] for match in found if match]
    if len(keys) < len(members) or len(set(keys)) < len(keys) or len(keys) > MOST_MEMBERS:
        return ""
    while len(joined := ",".join(members)) > MOST_STATE:
        members.pop()
    return joined


def _parsed(text: str) -> tuple[str, str, int] | None:
    """Trace, span and the flags that we know."""
    found = _PARENT.fullmatch(text) if len(text) <= MOST_STATE else None
    if found is None or found["version"] == "ff":
        return None
    if found["version"] == "00" and found["more"]:
        return None
    if not int(found["trace"], 16) or not int(found["span"], 16):
        return None
    return found["trace"], found["span"], int(found["flags"], 16) & (_SAMPLED | _RANDOM)


def _id(digits: int, draw: Draw) -> str:
    """Not zero: that means none."""
    return f"{draw(4 * digits) or 1:0{digits}x}"

"""Spans as OpenTelemetry's library has them, with the ids that backends were told.

Needs the extra `otel`.
"""

from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from tokenworks.telemetry.spans import Span

_KINDS: Final = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}


class SpanMaker:
    """To be used by one thread."""

    def __init__(self, resource: Resource, version: str) -> None:
        self._ids, self._ended = _GivenIds(), _Ended()
        provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=resource,
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("tokenworks", version)

    def make(self, span: Span) -> ReadableSpan:
        """The library's own, ended."""
        self._ids.trace_id, self._ids.span_id = span.trace.trace_id, span.trace.span_id
        made = self._tracer.start_span(
            span.name,
            context=_above(span),
            kind=_KINDS[span.kind],
            attributes=span.attributes,
            start_time=span.starts,
        )
        if span.failed:
            made.set_status(Status(StatusCode.ERROR))  # no words: they could quote the request
        made.end(end_time=span.ends)
        return self._ended.newest


class _GivenIds(IdGenerator):
    """Gives each span the id that it has already."""

    trace_id = span_id = ""

    def generate_trace_id(self) -> int:
        return int(self.trace_id, 16)

    def generate_span_id(self) -> int:
        return int(self.span_id, 16)


class _Ended(SpanProcessor):
    newest: ReadableSpan

    def on_end(self, span: ReadableSpan) -> None:
        self.newest = span


def _above(span: Span) -> Context:
    """The context of the span above, empty for the first of a trace. Without its state, which is
    opaque text of the client's."""
    trace = span.trace
    if not trace.parent_id:
        return Context()
    above = SpanContext(
        trace_id=int(trace.trace_id, 16),
        span_id=int(trace.parent_id, 16),
        is_remote=span.kind == "server",
        trace_flags=TraceFlags(trace.flags),
    )
    return set_span_in_context(NonRecordingSpan(above), Context())

"""Sends traces and metrics to a collector by OTLP over HTTP, from a thread of its own.

Whoever tells a fact waits for nothing: facts go into a queue that has an end, and what a dead
collector leaves in it is dropped and counted. Needs the extra `otel`.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tokenworks.telemetry.clock import Clock, MonotonicClock
from tokenworks.telemetry.facts import AttemptFact, RequestFact
from tokenworks.telemetry.otlp_spans import SpanMaker
from tokenworks.telemetry.spans import (
    Attributes,
    Measurement,
    attempt_span,
    measurements,
    request_span,
)

logger = logging.getLogger(__name__)

Fact = RequestFact | AttemptFact

MOST_WAITING: Final = 4096
"""Facts that wait for the collector; those that come when it is full are dropped."""

MOST_AT_ONCE: Final = 512
PERIOD_S: Final = 1.0
"""How long facts are gathered before they are sent together."""

TIMEOUT_S: Final = 5.0
METRICS_PERIOD_S: Final = 15.0
END_S: Final = 2.0
"""How long the last facts may take when the program ends."""

DURATION_BOUNDS: Final = tuple(0.01 * 2**power for power in range(14))
TOKEN_BOUNDS: Final = tuple(float(4**power) for power in range(14))
"""Of the histograms, as the conventions ask for them."""


class OtlpTraces:
    """Told facts, by the collector at `endpoint` (without /v1/traces); `close` it in the end."""

    def __init__(
        self,
        endpoint: str,
        *,
        version: str,
        content: bool = False,
        period_s: float = PERIOD_S,
        most_waiting: int = MOST_WAITING,
        end_s: float = END_S,
        clock: Clock | None = None,
    ) -> None:
        _quiet()
        base = endpoint.rstrip("/")
        resource = Resource.create({"service.name": "tokenworks", "service.version": version})
        self.dropped = 0
        self.wants_content = content
        self._endpoint, self._period_s, self._end_s = endpoint, period_s, end_s
        self._waiting: queue.Queue[Fact | None] = queue.Queue(most_waiting)
        self._maker = SpanMaker(resource, version)
        self._spans: SpanExporter = OTLPSpanExporter(f"{base}/v1/traces", timeout=TIMEOUT_S)
        self._meters, self._record = _meters(f"{base}/v1/metrics", resource, version)
        self._failing = False
        self._clock = clock or MonotonicClock()
        self._thread = threading.Thread(target=self._run, name="tokenworks-traces", daemon=True)
        self._thread.start()

    def request(self, fact: RequestFact) -> None:
        self._put(fact)

    def attempt(self, fact: AttemptFact) -> None:
        self._put(fact)

    def close(self) -> None:
        """Send what waits, if the collector takes it soon, and end."""
        try:
            self._waiting.put(None, timeout=self._end_s)
        except queue.Full:
            logger.debug("traces are dropped at the end: the collector does not answer")
        self._thread.join(self._end_s)
        self._spans.shutdown()
        self._meters.shutdown(timeout_millis=self._end_s * 1000)
        self._thread.join(self._end_s)

    def _put(self, fact: Fact) -> None:
        try:
            self._waiting.put_nowait(fact)
        except queue.Full:
            self.dropped += 1

    def _run(self) -> None:
        ended = False
        while not ended:
            facts, ended = self._gathered()
            if facts:
                self._send(facts)

    def _gathered(self) -> tuple[list[Fact], bool]:
        """All that comes within the period after the first; whether no more will come."""
        facts: list[Fact] = []
        fact = self._waiting.get()
        ends = self._clock.now() + self._period_s
        while fact is not None:
            facts.append(fact)
            if len(facts) == MOST_AT_ONCE:
                return facts, False
            try:
                fact = self._waiting.get(timeout=max(0.0, ends - self._clock.now()))
            except queue.Empty:
                return facts, False
        return facts, True

    def _send(self, facts: list[Fact]) -> None:
        try:
            spans = [
                request_span(one) if isinstance(one, RequestFact) else attempt_span(one)
                for one in facts
            ]
            made = [self._maker.make(span) for span in spans if span is not None]
            for measured in (m for one in facts for m in _measured(one)):
                self._record[measured.metric](measured.value, measured.attributes)
            arrived = self._spans.export(made) is SpanExportResult.SUCCESS
        except Exception:  # whatever it is: it must not end the thread
            logger.exception("traces could not be made")
            arrived = False
        if not arrived:
            self.dropped += len(facts)
        if arrived == self._failing:
            self._failing = not arrived
            said = "answers again" if arrived else "takes no traces; requests go on without"
            logger.warning("the collector %s %s", self._endpoint, said)


def _measured(fact: Fact) -> list[Measurement]:
    return measurements(fact) if isinstance(fact, AttemptFact) else []


def _meters(
    endpoint: str, resource: Resource, version: str
) -> tuple[MeterProvider, dict[str, Callable[[float, Attributes], None]]]:
    """The histograms of the conventions by name."""
    exporter = OTLPMetricExporter(endpoint, timeout=TIMEOUT_S)
    reader = PeriodicExportingMetricReader(exporter, METRICS_PERIOD_S * 1000, TIMEOUT_S * 1000)
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    meter = provider.get_meter("tokenworks", version)
    duration = meter.create_histogram(
        "gen_ai.client.operation.duration",
        "s",
        "GenAI operation duration.",
        explicit_bucket_boundaries_advisory=DURATION_BOUNDS,
    )
    usage = meter.create_histogram(
        "gen_ai.client.token.usage",
        "{token}",
        "Number of input and output tokens used.",
        explicit_bucket_boundaries_advisory=TOKEN_BOUNDS,
    )
    return provider, {
        "gen_ai.client.operation.duration": duration.record,
        "gen_ai.client.token.usage": usage.record,
    }


def _quiet() -> None:
    """The library's own complaints would fill the log while a collector is down: we say it once."""
    library = logging.getLogger("opentelemetry")
    library.propagate = False
    library.addHandler(logging.NullHandler())

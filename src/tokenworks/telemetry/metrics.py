"""What `/metrics` shows. The registry comes in as an argument: nothing here is global."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tokenworks.telemetry.facts import RequestFact
from tokenworks.telemetry.gateway_metrics import FIRST_TOKEN_BUCKETS, GatewayMetrics

_NEXT_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 1.0, 5.0)

Record = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetrics:
    """One model's series, looked up once so that the hot path does not. Times are in seconds."""

    prompt_tokens: Record
    cached_tokens: Record
    completion_tokens: Record
    first_token: Record
    next_token: Record


class Metrics:
    """Every series of the program. Made once, in `cli`; the gauges are read when scraped."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._requests = self._counter(
            "tokenworks_requests", "HTTP requests by route and status", "route", "status"
        )
        self._prompt_tokens = self._counter("tokenworks_prompt_tokens", "Prompt tokens read")
        self._cached_tokens = self._counter(
            "tokenworks_cached_prompt_tokens", "Prompt tokens whose KV was reused"
        )
        self._completion_tokens = self._counter(
            "tokenworks_completion_tokens", "Tokens generated and delivered"
        )
        self._restarts = self._counter(
            "tokenworks_engine_restarts", "Engine workers that died and were started again"
        )
        self._first_token = self._histogram(
            "tokenworks_time_to_first_token_seconds",
            "From a request's admission to the first piece of its answer",
            FIRST_TOKEN_BUCKETS,
        )
        self._next_token = self._histogram(
            "tokenworks_inter_token_seconds",
            "From one piece of an answer to the next",
            _NEXT_TOKEN_BUCKETS,
        )
        self._gauges = {
            name: Gauge(f"tokenworks_{name}", text, ("model",), registry=self.registry)
            for name, text in (
                ("ready", "1 if the engine answers, else 0"),
                ("running", "Requests whose tokens are being computed"),
                ("waiting", "Requests that wait for a place"),
                ("pages_used", "KV pages in use"),
                ("pages_total", "KV pages there are"),
                ("preemptions", "Requests that gave way to others since the engine started"),
                ("guessed_tokens", "Tokens guessed and verified since the engine started"),
                ("guessed_tokens_right", "Those of them that were right"),
            )
        }
        self._gateway = GatewayMetrics(self.registry)

    def request(self, route: str, status: int) -> None:
        """Count one answered HTTP request; `route` is a known path, never the caller's text."""
        self._requests.labels(route, str(status)).inc()

    @property
    def tenants_registry(self) -> CollectorRegistry:
        """What each tenant has spent, apart from `registry`."""
        return self._gateway.of_tenants

    def refused(self, code: str) -> None:
        """Count a request that got an error in place of an answer; `code` is one of ours."""
        self._gateway.refused(code)

    def ended(self, fact: RequestFact) -> None:
        """Count a request that is over, with what it took and cost."""
        self._gateway.ended(fact)

    def engine_restarted(self, model: str) -> None:
        self._restarts.labels(model).inc()

    def for_model(self, model: str) -> ModelMetrics:
        return ModelMetrics(
            prompt_tokens=self._prompt_tokens.labels(model).inc,
            cached_tokens=self._cached_tokens.labels(model).inc,
            completion_tokens=self._completion_tokens.labels(model).inc,
            first_token=self._first_token.labels(model).observe,
            next_token=self._next_token.labels(model).observe,
        )

    def exposition(
        self,
        engines: Mapping[str, Mapping[str, float]],
        backends: Mapping[str, Mapping[str, float]] | None = None,
        process: Mapping[str, float] | None = None,
        *,
        tenants: bool = False,
    ) -> bytes:
        """Prometheus text; `engines` (model → gauge name → value), `backends` (name → gauge name →
        value) and `process` are the gauges of this moment.

        Quantities of engines and backends that are no gauge of ours are left out, and what each
        tenant has spent unless `tenants`.
        """
        self._gateway.look(backends or {}, process or {})
        for name, gauge in self._gauges.items():
            gauge.clear()  # what an engine that is down said last is not so now
            for model, quantities in engines.items():
                if name in quantities:
                    gauge.labels(model).set(quantities[name])
        shown = generate_latest(self.registry)
        return shown + generate_latest(self.tenants_registry) if tenants else shown

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels or ("model",), registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, ("model",), buckets=buckets, registry=self.registry)

"""Requests, tokens, money and queues over all backends, as `/metrics` shows them.

Labels come from files of the operator's and from our own words, never from a request; tenants are
named up to a number, and the rest counts together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tokenworks.telemetry.facts import RequestFact

MOST_TENANTS: Final = 100
"""Tenants with a series of their own; those that come later count as `other`."""

FIRST_TOKEN_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_BACKEND_GAUGES: Final = {
    "breaker": "Circuit breaker: 0 closed, 1 half open, 2 open",
    "available": "1 if a request would be sent there now, else 0",
    "in_flight": "Requests that run there, or wait there",
    "most_in_flight": "Requests that may run there at one time",
    "error_rate": "Share of the recent requests that failed there",
}
_PROCESS_GAUGES: Final = {
    "requests_running": "Requests that are being answered, or wait to be",
    "ledger_waiting": "Units of work that wait for the database's writer",
    "ledger_unsettled": "Requests whose cost the database has not taken yet",
    "traces_dropped": "Facts that no collector was told, since the start",
}


@dataclass(frozen=True, slots=True)
class _Series:
    """What is counted for one model at one backend, looked up once."""

    tokens: Mapping[str, Counter]
    money: Counter
    energy: Counter
    first_token: Histogram


class GatewayMetrics:
    """`of_tenants` is a registry of its own: whoever may see figures may not see whose."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.of_tenants = CollectorRegistry()
        self._registry = registry
        self._ended = self._counter(
            "gateway_requests", "Requests that ended", "model", "backend", "status"
        )
        self._attempts = self._counter("attempts", "Questions to backends", "backend", "outcome")
        self._failovers = self._counter(
            "failovers", "Answers that another backend took over", "backend", "how"
        )
        self._hedges = self._counter("hedges", "Questions that a second one overtook", "backend")
        self._ruled_out = self._counter(
            "ruled_out", "Requests that a rule kept from a backend", "backend", "rule"
        )
        self._refusals = self._counter("refusals", "Requests refused, by the reply's code", "code")
        self._tokens = self._counter(
            "gateway_tokens", "Tokens as they are billed", "model", "backend", "kind"
        )
        self._money = self._counter(
            "money_micro_dollars", "Micro-dollars spent", "model", "backend"
        )
        self._tenants = Counter(
            "tokenworks_tenant_money_micro_dollars",
            "Micro-dollars spent by tenants",
            ("tenant",),
            registry=self.of_tenants,
        )
        self._energy = self._counter(
            "energy_joules", "Energy of requests, estimated", "model", "backend"
        )
        self._first_token = Histogram(
            "tokenworks_gateway_first_token_seconds",
            "From a request's admission to the first piece, by the backend that answered",
            ("backend",),
            buckets=FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self._backend_gauges = {
            name: Gauge(f"tokenworks_backend_{name}", text, ("backend",), registry=registry)
            for name, text in _BACKEND_GAUGES.items()
        }
        self._process_gauges = {
            name: Gauge(f"tokenworks_{name}", text, registry=registry)
            for name, text in _PROCESS_GAUGES.items()
        }
        self._series: dict[tuple[str, str], _Series] = {}
        self._named: set[str] = set()

    def refused(self, code: str) -> None:
        """Count a request that was refused; `code` is one of ours."""
        self._refusals.labels(code).inc()

    def ended(self, fact: RequestFact) -> None:
        """Count a request that is over."""
        model, backend = fact.model, fact.backend
        self._ended.labels(model, backend or "none", fact.status).inc()
        for name, rule in fact.ruled_out:
            self._ruled_out.labels(name, rule).inc()
        self._count_attempts(fact)
        if not backend:
            return
        series = self._series_of(model, backend)
        for kind, counter in series.tokens.items():
            if number := getattr(fact.tokens, kind):
                counter.inc(number)
        if fact.energy_j:
            series.energy.inc(fact.energy_j)
        if fact.first_token_s is not None:
            series.first_token.observe(fact.first_token_s)
        if fact.money:
            self._tenants.labels(self._bounded(fact.tenant)).inc(fact.money)

    def _count_attempts(self, fact: RequestFact) -> None:
        failed = False  # the one before
        for one in fact.asked:
            outcome = "failed" if one.failed else "overtaken" if one.overtaken else fact.status
            self._attempts.labels(one.backend, outcome).inc()
            if failed and not one.overtaken:
                self._failovers.labels(one.backend, one.resumed or "unseen").inc()
            if one.overtaken:
                self._hedges.labels(one.backend).inc()
            if one.money:
                self._series_of(fact.model, one.backend).money.inc(one.money)
            failed = one.failed

    def look(
        self, backends: Mapping[str, Mapping[str, float]], process: Mapping[str, float]
    ) -> None:
        """Set the gauges of this moment: by backend, and those of the process."""
        for name, gauge in self._backend_gauges.items():
            gauge.clear()
            for backend, quantities in backends.items():
                if name in quantities:
                    gauge.labels(backend).set(quantities[name])
        for name, value in process.items():
            self._process_gauges[name].set(value)

    def _series_of(self, model: str, backend: str) -> _Series:
        found = self._series.get((model, backend))
        if found is None:
            found = self._series[model, backend] = _Series(
                tokens={
                    kind: self._tokens.labels(model, backend, kind)
                    for kind in ("prompt", "cached", "completion", "reasoning")
                },
                money=self._money.labels(model, backend),
                energy=self._energy.labels(model, backend),
                first_token=self._first_token.labels(backend),
            )
        return found

    def _bounded(self, tenant: str) -> str:
        if tenant in self._named or len(self._named) < MOST_TENANTS:
            self._named.add(tenant)
            return tenant or "none"
        return "other"

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"tokenworks_{name}", text, labels, registry=self._registry)

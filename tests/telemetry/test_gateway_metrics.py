import json
import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tokenworks.telemetry.facts import Asked, RequestFact, Tokens
from tokenworks.telemetry.gateway_metrics import MOST_TENANTS
from tokenworks.telemetry.metrics import Metrics

DOCS = Path(__file__).resolve().parents[2] / "docs"


def fact(**changes: Any) -> RequestFact:
    given: dict[str, Any] = {
        "request_id": "r-1",
        "trace": None,
        "operation": "chat",
        "model": "helper",
        "label": "internal",
        "tenant": "acme",
        "status": "answered",
        "backend": "far",
        "began": 0.0,
        "took_s": 1.0,
    }
    return RequestFact(**(given | changes))


def shown(metrics: Metrics, **more: Any) -> dict[str, float]:
    lines = metrics.exposition({}, tenants=True, **more).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs if "_created" not in name}


def test_money_is_counted_for_each_backend_that_took_some() -> None:
    metrics = Metrics()
    asked = (
        Asked(backend="near", failed=True, money=5),
        Asked(backend="far", resumed="continue", money=70),
    )
    metrics.ended(fact(asked=asked, money=75, tokens=Tokens(prompt=3, completion=4), energy_j=1.5))
    found = shown(metrics)

    money = "tokenworks_money_micro_dollars_total"
    assert found[money + '{backend="near",model="helper"}'] == 5
    assert found[money + '{backend="far",model="helper"}'] == 70
    assert found['tokenworks_tenant_money_micro_dollars_total{tenant="acme"}'] == 75
    assert found['tokenworks_attempts_total{backend="near",outcome="failed"}'] == 1
    assert found['tokenworks_attempts_total{backend="far",outcome="answered"}'] == 1
    assert found['tokenworks_failovers_total{backend="far",how="continue"}'] == 1
    tokens = "tokenworks_gateway_tokens_total"
    assert found[tokens + '{backend="far",kind="completion",model="helper"}'] == 4
    assert found['tokenworks_energy_joules_total{backend="far",model="helper"}'] == 1.5


def test_a_hedge_is_no_failover() -> None:
    metrics = Metrics()
    asked = (Asked(backend="slow", overtaken=True), Asked(backend="quick"))
    metrics.ended(fact(asked=asked, backend="quick"))
    found = shown(metrics)

    assert found['tokenworks_hedges_total{backend="slow"}'] == 1
    assert found['tokenworks_attempts_total{backend="slow",outcome="overtaken"}'] == 1
    assert not any("failovers" in name for name in found)


def test_rules_and_refusals_are_counted() -> None:
    metrics = Metrics()
    metrics.ended(fact(ruled_out=(("far", "label"), ("other", "health"))))
    metrics.ended(fact(status="refused", backend="", error="BudgetError"))
    metrics.refused("insufficient_quota")
    found = shown(metrics)

    assert found['tokenworks_ruled_out_total{backend="far",rule="label"}'] == 1
    refused = 'tokenworks_gateway_requests_total{backend="none",model="helper",status="refused"}'
    assert found[refused] == 1
    assert found['tokenworks_refusals_total{code="insufficient_quota"}'] == 1


def test_no_number_of_tenants_makes_more_than_so_many_series() -> None:
    metrics = Metrics()
    for number in range(10 * MOST_TENANTS):
        metrics.ended(fact(tenant=f"tenant-{number}", money=1))
    found = {name: n for name, n in shown(metrics).items() if "tenant_money" in name}

    assert len(found) == MOST_TENANTS + 1
    assert found['tokenworks_tenant_money_micro_dollars_total{tenant="other"}'] == (
        9 * MOST_TENANTS
    )


def test_whose_money_it_is_shows_only_to_who_may_see_it() -> None:
    metrics = Metrics()
    metrics.ended(fact(money=7, asked=(Asked(backend="far", money=7),)))

    assert b"acme" not in metrics.exposition({})
    assert b"acme" in metrics.exposition({}, tenants=True)


def test_gauges_of_a_backend_that_is_gone_are_gone() -> None:
    metrics = Metrics()
    first = shown(metrics, backends={"far": {"breaker": 2}}, process={"ledger_waiting": 3})
    then = shown(metrics, backends={"near": {"breaker": 0}})

    assert first['tokenworks_backend_breaker{backend="far"}'] == 2
    assert first["tokenworks_ledger_waiting"] == 3
    assert 'tokenworks_backend_breaker{backend="far"}' not in then


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=6))
def test_each_question_is_counted_once(asked: list[tuple[str, bool, bool]]) -> None:
    metrics = Metrics()
    attempts = tuple(
        Asked(backend=name, failed=failed, overtaken=overtaken and not failed)
        for name, failed, overtaken in asked
    )
    metrics.ended(fact(asked=attempts))
    counted = sum(n for name, n in shown(metrics).items() if name.startswith("tokenworks_attempts"))

    assert counted == len(attempts)


def test_guide_and_dashboard_name_only_series_that_there_are() -> None:
    metrics = Metrics()
    metrics.ended(fact(asked=(Asked(backend="far", money=1),), money=1))
    families = [*metrics.registry.collect(), *metrics.tenants_registry.collect()]
    there = {family.name.removesuffix("_total") for family in families}
    dashboard = json.loads((DOCS / "grafana" / "tokenworks.json").read_text())
    targets = [one["expr"] for panel in dashboard["panels"] for one in panel["targets"]]
    texts = [*targets, (DOCS / "guides" / "observing.md").read_text()]
    used = {name for text in texts for name in re.findall(r"tokenworks_[a-z_]+", text)}
    plain = {re.sub(r"(_seconds)_bucket$|_total$", r"\1", name) for name in used}

    assert len(targets) >= len(dashboard["panels"]) >= 10
    assert plain <= there, plain - there
    assert there <= plain, there - plain

"""`/health` (the process lives), `/ready` (it answers), `/metrics` (how it does)."""

from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter
from msgspec import json
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from tokenworks.accounts.books import Books
from tokenworks.server.context import Context, json_response, key_of

_BREAKER: Final[Mapping[str, int]] = {"closed": 0, "half_open": 1, "open": 2}


def health_router(context: Context, books: Books | None = None) -> APIRouter:
    router = APIRouter()
    gateway = context.gateway

    @router.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> Response:
        return json_response(json.encode({"status": "ok", **_report(context)}))

    @router.api_route("/ready", methods=["GET", "HEAD"])
    async def ready() -> Response:
        statuses = gateway.statuses().values()
        answers = not gateway.draining and all(status.state == "ready" for status in statuses)
        report = json.encode({"ready": answers, **_report(context)})
        return json_response(report, 200 if answers else 503)

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Of keys that were made here, those that may see usage; tenants' money for an
        administrator."""
        key = key_of(request)
        if key.id:
            key.require("usage")
        engines = {}
        for name, status in gateway.statuses().items():
            numbers = {k: v for k, v in status.details.items() if not isinstance(v, str)}
            engines[name] = {**numbers, "ready": status.state == "ready"}
        tenants = not key.id or "admin" in key.scopes
        exposition = context.metrics.exposition(
            engines, _backends(context), _process(context, books), tenants=tenants
        )
        return Response(exposition, headers={"content-type": CONTENT_TYPE_LATEST})

    return router


def _backends(context: Context) -> dict[str, dict[str, float]]:
    states = {one.name: one.state() for one in context.gateway.backends.all}
    return {
        name: {
            "breaker": _BREAKER[state.phase],
            "available": state.available,
            "in_flight": state.in_flight,
            "most_in_flight": state.most_in_flight,
            "error_rate": state.error_rate,
        }
        for name, state in states.items()
    }


def _process(context: Context, books: Books | None) -> dict[str, float]:
    gateway = context.gateway
    found: dict[str, float] = {
        "requests_running": gateway.running,
        "traces_dropped": gateway.teller.dropped,
    }
    if books is not None:
        found["ledger_waiting"] = books.database.waiting
        found["ledger_unsettled"] = books.budgets.unsettled
    return found


def _report(context: Context) -> dict[str, object]:
    models = {
        name: {"state": status.state, "reason": status.reason, **status.details}
        for name, status in context.gateway.statuses().items()
    }
    return {
        "draining": context.gateway.draining,
        "requests": context.gateway.running,
        "models": models,
    }

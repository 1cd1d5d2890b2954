"""`/health` (the process lives), `/ready` (it answers), `/metrics` (how it does)."""

from fastapi import APIRouter
from msgspec import json
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from tokenworks.server.context import Context, json_response


def health_router(context: Context) -> APIRouter:
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
    async def metrics() -> Response:
        engines = {}
        for name, status in gateway.statuses().items():
            numbers = {k: v for k, v in status.details.items() if not isinstance(v, str)}
            engines[name] = {**numbers, "ready": status.state == "ready"}
        exposition = context.metrics.exposition(engines)
        return Response(exposition, headers={"content-type": CONTENT_TYPE_LATEST})

    return router


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

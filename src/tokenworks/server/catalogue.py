"""`GET /v1/models`: what is served here."""

from fastapi import APIRouter
from msgspec import json
from starlette.responses import Response

from tokenworks.server.context import Context, json_response


def catalogue_router(context: Context) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> Response:
        data = [_model_json(context, name) for name in context.gateway.models]
        return json_response(json.encode({"object": "list", "data": data}))

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        return json_response(json.encode(_model_json(context, context.gateway.resolve(name))))

    return router


def _model_json(context: Context, name: str) -> dict[str, object]:
    described: dict[str, object] = {
        "id": name,
        "object": "model",
        "created": context.started,
        "owned_by": "tokenworks",
    }
    details = context.gateway.statuses()[name].details
    if "context_length" in details:
        described["context_length"] = details["context_length"]
    return described

"""Puts the server together: the door, one router an area, every error in OpenAI's shape."""

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tokenworks.gateway.gateway import Gateway
from tokenworks.server.catalogue import catalogue_router
from tokenworks.server.chat import chat_router
from tokenworks.server.completions import completions_router
from tokenworks.server.context import Context
from tokenworks.server.guard import Guard, Rules, failure_response
from tokenworks.server.health import health_router
from tokenworks.server.page import page_router
from tokenworks.server.replies import Failure
from tokenworks.server.settings import ServerSettings, read_api_key
from tokenworks.telemetry.metrics import Metrics


def create_app(gateway: Gateway, settings: ServerSettings, metrics: Metrics) -> FastAPI:
    """The ASGI application. Raises ConfigError if the key file cannot be used.

    It neither starts nor stops the gateway's backends: whoever runs it does.
    """
    rules = Rules.of(settings, read_api_key(settings))
    context = Context(gateway=gateway, settings=settings, metrics=metrics)
    # No generated documentation pages: they load scripts from elsewhere.
    app = FastAPI(title="Tokenworks", openapi_url=None, redirect_slashes=False)
    app.include_router(chat_router(context))
    app.include_router(completions_router(context))
    app.include_router(catalogue_router(context))
    app.include_router(health_router(context))
    app.include_router(page_router())
    app.add_middleware(Guard, rules=rules, metrics=metrics)
    app.add_exception_handler(HTTPException, _unknown_route)
    return app


async def _unknown_route(request: Request, error: Exception) -> Response:
    """No such path (404), or not with this method (405)."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})
    what = f"{request.method} {ascii(request.url.path[:200])[1:-1]}"
    message = f"There is no {what} here. The API is under /v1: see GET /v1/models"
    code = "unknown_url"
    if status == 405:
        allowed = headers.get("allow") or headers.get("Allow") or "another method"
        message, code = f"{what} is not possible; use {allowed}", "method_not_allowed"
    return failure_response(Failure(status=status, message=message, code=code, headers=headers))

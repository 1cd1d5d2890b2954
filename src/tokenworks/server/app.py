"""Puts the server together: the door, one router an area, every error in OpenAI's shape."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tokenworks.accounts.books import Books
from tokenworks.gateway.gateway import Gateway
from tokenworks.server.admin.access import Administration
from tokenworks.server.admin.routers import include_administration
from tokenworks.server.anthropic.router import messages_router
from tokenworks.server.callers import Callers
from tokenworks.server.catalogue import catalogue_router
from tokenworks.server.chat import chat_router
from tokenworks.server.completions import completions_router
from tokenworks.server.context import Context
from tokenworks.server.guard import Guard, Rules, failure_response
from tokenworks.server.health import health_router
from tokenworks.server.page import page_router
from tokenworks.server.replies import Failure
from tokenworks.server.responses.router import responses_router
from tokenworks.server.settings import ServerSettings, read_api_key
from tokenworks.telemetry.metrics import Metrics


def create_app(
    gateway: Gateway,
    settings: ServerSettings,
    metrics: Metrics,
    *,
    books: Books | None = None,
) -> FastAPI:
    """The ASGI application. Raises ConfigError if the key file cannot be used.

    It neither starts nor stops the gateway's backends: whoever runs it does.
    """
    callers = Callers(read_api_key(settings), books.keys if books else None)
    context = Context(gateway=gateway, settings=settings, metrics=metrics)
    # No generated documentation pages: they load scripts from elsewhere.
    app = FastAPI(title="Tokenworks", openapi_url=None, redirect_slashes=False)
    app.include_router(chat_router(context))
    app.include_router(completions_router(context))
    app.include_router(responses_router(context))
    app.include_router(messages_router(context))
    app.include_router(catalogue_router(context))
    app.include_router(health_router(context))
    app.include_router(page_router())
    if books is not None:
        include_administration(app, Administration(gateway=gateway, books=books))
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_middleware(Guard, rules=Rules.of(settings), callers=callers, metrics=metrics)
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
    failure = Failure(status=status, message=message, code=code, headers=headers)
    return failure_response(failure, request.url.path)


async def _bad_request(request: Request, error: Exception) -> Response:
    """What does not fit the administration's description of itself (400)."""
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    where = ".".join(str(step) for step in first.get("loc", ())[1:])
    message = f"{where}: {first.get('msg', 'not understood')}".removeprefix(": ")
    failure = Failure(status=400, message=message, param=where or None, code="invalid_value")
    return failure_response(failure, request.url.path)

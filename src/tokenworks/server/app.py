"""Puts the server together: the door, one router an area, every error in OpenAI's shape."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tokenworks.accounts.books import Books
from tokenworks.gateway.gateway import Gateway
from tokenworks.server.admin.access import Administration
from tokenworks.server.admin.routers import administration_routers
from tokenworks.server.anthropic.router import messages_router
from tokenworks.server.body import BoundedBodies
from tokenworks.server.callers import Callers
from tokenworks.server.catalogue import catalogue_router
from tokenworks.server.chat import chat_router
from tokenworks.server.completions import completions_router
from tokenworks.server.context import Context
from tokenworks.server.embeddings import embeddings_router
from tokenworks.server.guard import Guard, Rules
from tokenworks.server.health import health_router
from tokenworks.server.kept import ResponseStore
from tokenworks.server.kept_rows import response_store
from tokenworks.server.page import page_router
from tokenworks.server.responses.router import responses_router
from tokenworks.server.settings import ServerSettings, read_api_key
from tokenworks.server.tokenizing import tokenizing_router
from tokenworks.server.unknown import UnknownRoute, bad_request
from tokenworks.telemetry.metrics import Metrics


def create_app(
    gateway: Gateway,
    settings: ServerSettings,
    metrics: Metrics,
    *,
    books: Books | None = None,
    responses: ResponseStore | None = None,
) -> FastAPI:
    """The ASGI application. Raises ConfigError if the key file cannot be used.

    It neither starts nor stops the gateway's backends: whoever runs it does.
    """
    callers = Callers(read_api_key(settings), books.keys if books else None)
    context = Context(
        gateway=gateway,
        settings=settings,
        metrics=metrics,
        responses=responses or response_store(settings, books),
    )
    # No generated documentation pages: they load scripts from elsewhere.
    app = FastAPI(title="Tokenworks", openapi_url=None, redirect_slashes=False)
    routers = [
        chat_router(context),
        completions_router(context),
        responses_router(context),
        messages_router(context),
        embeddings_router(context),
        tokenizing_router(context),
        catalogue_router(context),
        health_router(context, books),
        page_router(),
    ]
    if books is not None:
        routers += administration_routers(Administration(gateway=gateway, books=books))
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(RequestValidationError, bad_request)
    app.add_middleware(BoundedBodies, settings=settings, path="/admin")
    app.add_middleware(
        Guard,
        rules=Rules.of(settings),
        callers=callers,
        metrics=metrics,
        recording=gateway.teller.recording,
    )
    app.add_exception_handler(HTTPException, UnknownRoute(routers))
    return app

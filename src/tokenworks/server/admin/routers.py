"""All routers of the administration, and their description in OpenAPI."""

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from tokenworks import __version__
from tokenworks.server.admin.access import Administration, Json
from tokenworks.server.admin.backends import backends_router
from tokenworks.server.admin.budgets import budgets_router
from tokenworks.server.admin.keys import keys_router
from tokenworks.server.admin.requests import requests_router
from tokenworks.server.admin.usage import usage_router


def include_administration(app: FastAPI, administration: Administration) -> None:
    routers = [
        make(administration)
        for make in (
            keys_router,
            budgets_router,
            usage_router,
            requests_router,
            backends_router,
        )
    ]
    for router in (*routers, _description_router(routers)):
        app.include_router(router)


def _description_router(routers: list[APIRouter]) -> APIRouter:
    router = APIRouter(prefix="/admin")

    @router.get("/openapi.json", include_in_schema=False)
    async def description() -> Json:
        return get_openapi(
            title="Tokenworks administration",
            version=__version__,
            routes=[route for router in routers for route in router.routes],
        )

    return router

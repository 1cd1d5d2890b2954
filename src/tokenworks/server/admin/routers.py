"""All routers of the administration."""

from fastapi import APIRouter

from tokenworks.server.admin.access import Administration
from tokenworks.server.admin.backends import backends_router
from tokenworks.server.admin.budgets import budgets_router
from tokenworks.server.admin.description import description_router
from tokenworks.server.admin.keys import keys_router
from tokenworks.server.admin.limits import limits_router
from tokenworks.server.admin.requests import requests_router
from tokenworks.server.admin.usage import usage_router


def administration_routers(administration: Administration) -> list[APIRouter]:
    routers = [
        make(administration)
        for make in (
            keys_router,
            limits_router,
            budgets_router,
            usage_router,
            requests_router,
            backends_router,
        )
    ]
    return [*routers, description_router(routers)]

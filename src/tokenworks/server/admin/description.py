"""The administration's description of itself, in OpenAPI."""

from collections.abc import Sequence
from typing import Final

import msgspec
from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi

from tokenworks import __version__
from tokenworks.gateway.policies import Policies
from tokenworks.server.admin.access import Admin, Json

_PREFIX: Final = "policies."


def description_router(routers: Sequence[APIRouter]) -> APIRouter:
    router = APIRouter(prefix="/admin")

    @router.get("/openapi.json", include_in_schema=False)
    async def description(_: Admin) -> Json:
        return described(routers)

    return router


def described(routers: Sequence[APIRouter]) -> Json:
    """What these routers take and answer."""
    found: Json = get_openapi(
        title="Tokenworks administration",
        version=__version__,
        description="Keys, budgets, usage, requests and backends of a running factory.",
        routes=[route for router in routers for route in router.routes],
    )
    schemas: Json = found["components"]["schemas"]
    _describe_policies(schemas)
    for operations in found["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # what fits no schema is told as 400
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    found["security"] = [{"key": []}]
    return found


def _describe_policies(schemas: Json) -> None:
    """Those are no pydantic model: their own schema is put in, under names that no other has."""
    (whole,), parts = msgspec.json.schema_components(
        (Policies,), ref_template=f"#/components/schemas/{_PREFIX}{{name}}"
    )
    schemas.update({f"{_PREFIX}{name}": part for name, part in parts.items()})
    schemas["PoliciesShown"]["properties"]["policies"] = whole

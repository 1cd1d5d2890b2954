"""`/admin/backends` and `/admin/policies`: who answers, how each does, and the rules that hold."""

from typing import Literal

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from tokenworks.errors import ConfigError
from tokenworks.server.admin.access import Admin, Administration, Json
from tokenworks.server.admin.shapes import (
    NOT_FOUND,
    REFUSALS,
    WITH_BODY,
    BackendShown,
    Listed,
    PoliciesShown,
    Reloaded,
)
from tokenworks.server.replies import refuse


class Change(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    state: Literal["serving", "draining"]


class Nothing(BaseModel):
    """An empty object: what is sent as JSON, no page elsewhere can send."""

    model_config = ConfigDict(extra="forbid", strict=True)


def backends_router(administration: Administration) -> APIRouter:
    router = APIRouter(prefix="/admin", tags=["backends"], responses=REFUSALS)
    gateway = administration.gateway

    @router.get("/backends", response_model=Listed[BackendShown])
    async def list_backends(_: Admin) -> Json:
        """All backends: where they stand, what they may see, what they can, how they do."""
        return {"data": gateway.backends.described()}

    @router.post("/backends/{name}", status_code=204, responses={**NOT_FOUND, **WITH_BODY})
    async def change_backend(_: Admin, name: str, change: Change) -> None:
        """Ask a backend nothing more (what runs there goes on), or again."""
        if not gateway.backends.drain(name, change.state == "draining"):
            raise refuse(404, "backend_not_found", "There is no such backend, or it cannot drain")

    @router.get("/policies", response_model=PoliciesShown)
    async def policies(_: Admin) -> Json:
        """The policies that hold, and why those in the file do not, where that is so."""
        file = gateway.policies
        held = msgspec.to_builtins(file.current, str_keys=True)
        return {"policies": held, "problem": file.problem or None}

    @router.post("/policies/reload", response_model=Reloaded, responses=WITH_BODY)
    async def reload(_: Admin, __: Nothing) -> Json:
        """Read the file now. What is wrong with it is the error; the old policies hold then."""
        changed = await gateway.reload()
        if gateway.policies.problem:  # it was seen before, and is still so
            raise ConfigError(gateway.policies.problem)
        return {"changed": changed}

    return router

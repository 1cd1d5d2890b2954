"""`/admin/limits`: how many requests and tokens a minute a key, a user or a tenant may use."""

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from tokenworks.accounts.limits import Allowance
from tokenworks.server.admin.access import Admin, Administration, Json, actor_of, known_key
from tokenworks.server.admin.fields import Count, Holder
from tokenworks.server.admin.shapes import (
    NOT_FOUND,
    REFUSALS,
    WITH_BODY,
    AllowanceShown,
    Listed,
)
from tokenworks.server.replies import refuse


class LimitWanted(BaseModel):
    """What is left out, or null, is not limited."""

    model_config = ConfigDict(extra="forbid", strict=True)

    holder: Holder
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None


class LimitShown(AllowanceShown):
    holder: str


def limits_router(administration: Administration) -> APIRouter:
    router = APIRouter(prefix="/admin/limits", tags=["limits"], responses=REFUSALS)
    keys = administration.books.keys

    async def check_known(holder: str) -> None:
        """A key's limits are its own: there must be one."""
        kind, _, name = holder.partition(":")
        if kind == "key":
            await known_key(keys, name)

    @router.get("", response_model=Listed[LimitShown])
    async def list_limits(_: Admin) -> Json:
        """All rate limits of keys, users and tenants."""
        limits = await keys.limits()
        return {
            "data": [
                {"holder": holder, **msgspec.to_builtins(allowance)}
                for holder, allowance in limits.items()
            ]
        }

    @router.put("", status_code=204, responses={**NOT_FOUND, **WITH_BODY})
    async def set_limit(admin: Admin, wanted: LimitWanted) -> None:
        """Limit a holder, in place of the limits it has."""
        allowance = Allowance(
            requests_per_minute=wanted.requests_per_minute,
            tokens_per_minute=wanted.tokens_per_minute,
        )
        await check_known(wanted.holder)
        await keys.set_limit(wanted.holder, allowance, actor=actor_of(admin))

    @router.delete("", status_code=204, responses=NOT_FOUND)
    async def remove_limit(admin: Admin, holder: Holder) -> None:
        """Let a holder use as much a minute as it likes."""
        await check_known(holder)
        if not await keys.set_limit(holder, Allowance(), actor=actor_of(admin)):
            raise refuse(404, "limit_not_found", "This holder has no limits")

    return router

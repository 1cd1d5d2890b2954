"""`/admin/keys`: make, list, rotate and revoke."""

import time
from typing import Annotated

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from tokenworks.accounts.keys import IssuedKey, Key, NewKey
from tokenworks.accounts.limits import Allowance
from tokenworks.gateway.labels import label_of
from tokenworks.server.admin.access import Admin, Administration, Json, actor_of

MostADay = Annotated[int, Field(ge=0, le=2**53)]


class Limits(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    requests_per_minute: MostADay | None = None
    tokens_per_minute: MostADay | None = None


class KeyWanted(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tenant: Annotated[str, Field(min_length=1, max_length=64)]
    user: Annotated[str, Field(max_length=64)] = ""
    name: Annotated[str, Field(max_length=64)] = ""
    role: str = "user"
    scopes: list[str] | None = None
    label: str = ""
    models: Annotated[list[str], Field(max_length=256)] = []
    limits: Limits = Limits()
    most_priority: Annotated[int, Field(ge=-10, le=10)] = 0
    expires_in_s: Annotated[float, Field(gt=0, le=10 * 366 * 86_400)] | None = None


class Rotation(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    grace_s: Annotated[float, Field(ge=0, le=90 * 86_400)] = 86_400.0


def keys_router(administration: Administration) -> APIRouter:
    router = APIRouter(prefix="/admin/keys", tags=["keys"])
    keys = administration.books.keys

    @router.get("")
    async def list_keys(_: Admin) -> Json:
        """All keys: whose they are and what they allow, never what they are."""
        return {"data": [described(key) for key in await keys.all()]}

    @router.post("", status_code=201)
    async def create_key(admin: Admin, wanted: KeyWanted) -> Json:
        """Make a key. Its text is in the answer and nowhere else."""
        label = label_of(wanted.label, param="label").word if wanted.label else ""
        new = NewKey(
            tenant=wanted.tenant,
            user=wanted.user,
            name=wanted.name,
            role=wanted.role,
            scopes=None if wanted.scopes is None else frozenset(wanted.scopes),
            label=label,
            models=tuple(wanted.models),
            allowance=Allowance(**wanted.limits.model_dump()),
            priority_max=wanted.most_priority,
            expires_at=wanted.expires_in_s and time.time() + wanted.expires_in_s,
        )
        return _issued(await keys.create(new, actor=actor_of(admin)))

    @router.post("/{key_id}/rotate")
    async def rotate_key(admin: Admin, key_id: str, wanted: Rotation) -> Json:
        """Give a key a new secret; the old one holds for `grace_s` seconds more."""
        rotated = await keys.rotate(key_id, actor=actor_of(admin), grace_s=wanted.grace_s)
        return _issued(rotated)

    @router.delete("/{key_id}", status_code=204)
    async def revoke_key(admin: Admin, key_id: str) -> None:
        """Let a key open nothing from now on."""
        await keys.revoke(key_id, actor=actor_of(admin))

    return router


def described(key: Key) -> Json:
    shown: Json = msgspec.to_builtins(key)
    shown["scopes"] = sorted(shown["scopes"])
    return shown


def _issued(issued: IssuedKey) -> Json:
    return {"key": issued.text, **described(issued.key)}

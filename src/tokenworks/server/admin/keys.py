"""`/admin/keys`: make, list, rotate and revoke."""

import time
from typing import Annotated

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from tokenworks.accounts.keys import IssuedKey, Key, NewKey
from tokenworks.accounts.limits import Allowance
from tokenworks.server.admin.access import Admin, Administration, Json, actor_of, known_key
from tokenworks.server.admin.fields import (
    WHOLE,
    Count,
    LabelWord,
    Name,
    NameOrNone,
    Role,
    Scope,
)
from tokenworks.server.admin.shapes import (
    NOT_FOUND,
    REFUSALS,
    REVOKED,
    WITH_BODY,
    KeyIssued,
    KeyShown,
    Listed,
)
from tokenworks.server.replies import refuse


class Limits(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None


class KeyWanted(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tenant: Name
    user: NameOrNone = ""
    name: NameOrNone = ""
    role: Role = "user"
    scopes: Annotated[list[Scope], Field(max_length=8)] | None = None  # None: those of the role
    label: LabelWord = ""
    models: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=256)] = []
    limits: Limits = Limits()
    most_priority: Annotated[int, Field(ge=-10, le=10), WHOLE] = 0
    expires_in_s: Annotated[float, Field(ge=1, le=10 * 366 * 86_400)] | None = None


class Rotation(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    grace_s: Annotated[float, Field(ge=0, le=90 * 86_400)] = 86_400.0


def keys_router(administration: Administration) -> APIRouter:
    router = APIRouter(prefix="/admin/keys", tags=["keys"], responses=REFUSALS)
    keys = administration.books.keys

    @router.get("", response_model=Listed[KeyShown])
    async def list_keys(_: Admin) -> Json:
        """All keys: whose they are and what they allow, never what they are."""
        return {"data": [described(key) for key in await keys.all()]}

    @router.post("", status_code=201, response_model=KeyIssued, responses=WITH_BODY)
    async def create_key(admin: Admin, wanted: KeyWanted) -> Json:
        """Make a key. Its text is in the answer and nowhere else."""
        new = NewKey(
            tenant=wanted.tenant,
            user=wanted.user,
            name=wanted.name,
            role=wanted.role,
            scopes=None if wanted.scopes is None else frozenset(wanted.scopes),
            label=wanted.label,
            models=tuple(wanted.models),
            allowance=Allowance(**wanted.limits.model_dump()),
            priority_max=wanted.most_priority,
            expires_at=wanted.expires_in_s and time.time() + wanted.expires_in_s,
        )
        return _issued(await keys.create(new, actor=actor_of(admin)))

    @router.post(
        "/{key_id}/rotate",
        response_model=KeyIssued,
        responses={**NOT_FOUND, **REVOKED, **WITH_BODY},
    )
    async def rotate_key(admin: Admin, key_id: str, wanted: Rotation) -> Json:
        """Give a key a new secret; the old one holds for `grace_s` seconds more."""
        if (await known_key(keys, key_id)).revoked_at is not None:
            raise refuse(409, "key_revoked", "The key was revoked: make another one")
        rotated = await keys.rotate(key_id, actor=actor_of(admin), grace_s=wanted.grace_s)
        return _issued(rotated)

    @router.delete("/{key_id}", status_code=204, responses=NOT_FOUND)
    async def revoke_key(admin: Admin, key_id: str) -> None:
        """Let a key open nothing from now on."""
        await known_key(keys, key_id)
        await keys.revoke(key_id, actor=actor_of(admin))

    return router


def described(key: Key) -> Json:
    shown: Json = msgspec.to_builtins(key)
    shown["scopes"] = sorted(shown["scopes"])
    return shown


def _issued(issued: IssuedKey) -> Json:
    return {"key": issued.text, **described(issued.key)}

"""Who may use the administration, and what every router of it is given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from tokenworks.accounts.books import Books
from tokenworks.accounts.key_store import KeyStore
from tokenworks.accounts.keys import Key
from tokenworks.gateway.gateway import Gateway
from tokenworks.server.context import key_of
from tokenworks.server.replies import refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    gateway: Gateway
    books: Books


def _needs(scope: str) -> Callable[[Request], Key]:
    def check(request: Request) -> Key:
        key = key_of(request)
        key.require(scope)
        return key

    return check


Admin = Annotated[Key, Depends(_needs("admin"))]
"""The key of whoever administers. Raises AccessError for one that may not."""

Accountant = Annotated[Key, Depends(_needs("usage"))]
"""The key of whoever reads the books: of an administrator all, of another its own tenant's."""


def check_still(key: Key, keys: KeyStore, scope: str) -> None:
    """Of whoever is answered for long. Raises UnknownCaller, AccessError."""
    if key.id:  # the key file's own holds while this process runs
        keys.now(key).require(scope)


def tenant_seen(key: Key, wanted: str | None) -> str | None:
    """The tenant whose books this key may see, None for all. Raises AccessError."""
    if "admin" in key.scopes:
        return wanted
    if wanted not in (None, key.tenant):
        key.require("admin")
    return key.tenant


async def known_key(keys: KeyStore, key_id: str) -> Key:
    """Raises HttpRefusal (404) if there is no such key."""
    for key in await keys.all():
        if key.id == key_id:
            return key
    raise refuse(404, "key_not_found", "There is no such key: GET /admin/keys lists them")


def actor_of(key: Key) -> str:
    """Whom the audit log names."""
    return f"key:{key.id}" if key.id else "owner"


Json = dict[str, Any]

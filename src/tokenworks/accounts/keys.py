"""Keys: what one allows, what its text looks like, and the hash of it that is kept.

A text is `tw_<id>_<secret>`; it is shown once, when the key is made or rotated. Kept is BLAKE2b of
the whole text under the installation's secret (RFC 7693, keyed): who copies the database can
neither use nor test a key, and a secret of 160 random bits needs no slow hash.
"""

from base64 import b32encode
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Final

import msgspec

from tokenworks.accounts.holders import Caller
from tokenworks.accounts.limits import Allowance
from tokenworks.errors import AccessError, RequestError

ROLES: Final[dict[str, frozenset[str]]] = {
    "user": frozenset({"infer"}),
    "accountant": frozenset({"usage"}),
    "service": frozenset({"infer", "usage"}),
    "admin": frozenset({"infer", "usage", "admin"}),
}
"""Roles, and the scopes of each."""

SCOPES: Final = frozenset().union(*ROLES.values())

_ID_BYTES, _SECRET_BYTES = 10, 20
_LONGEST: Final = 256
"""Characters of a text that are looked at: ours are shorter, and nobody's hashing takes long."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a key, but for its secret and the hash of it.

    `label` is the word that requests with this key have unless they say more. `models` are patterns
    as shells have them; none: every model. Times are seconds since 1970 UTC.
    """

    id: str
    tenant: str
    user: str = ""
    name: str = ""
    role: str = "user"
    scopes: frozenset[str] = ROLES["user"]
    label: str = ""
    models: tuple[str, ...] = ()
    allowance: Allowance = Allowance()
    priority_max: int = 0
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None

    @property
    def caller(self) -> Caller:
        return Caller(self.tenant, self.user, self.id)

    def may_use(self, model: str) -> bool:
        if not self.models:
            return True
        model = model.casefold()
        return any(fnmatchcase(model, pattern.casefold()) for pattern in self.models)

    def require(self, scope: str) -> None:
        """Raises AccessError unless the key has this scope."""
        if scope not in self.scopes:
            raise AccessError(
                f"The key {self.id} may not do this: it has no scope {scope!r}",
                hint=f"its scopes are {', '.join(sorted(self.scopes)) or 'none'}",
            )


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """What a key that is to be made shall allow; fields as in `Key`.

    `scopes` None: those of the role.
    """

    tenant: str
    user: str = ""
    name: str = ""
    role: str = "user"
    scopes: frozenset[str] | None = None
    label: str = ""
    models: tuple[str, ...] = ()
    allowance: Allowance = Allowance()
    priority_max: int = 0
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key with its text, which is nowhere else and does not show in logs."""

    key: Key
    text: str = field(repr=False)


def scopes_of(role: str, scopes: frozenset[str] | None) -> frozenset[str]:
    """The scopes that a key of this role has. Raises RequestError for a role or scope unknown, and
    for a scope that the role has not."""
    if role not in ROLES:
        raise RequestError(f"{role[:40]!r} is no role; there are {', '.join(ROLES)}", param="role")
    if scopes is None:
        return ROLES[role]
    if beyond := sorted(scopes - ROLES[role]):
        raise RequestError(
            f"The role {role!r} has no scope {beyond[0][:40]!r}",
            hint=f"its scopes are {', '.join(sorted(ROLES[role]))}",
            param="scopes",
        )
    return scopes


def new_id(draw: Callable[[int], bytes]) -> str:
    return _letters(draw(_ID_BYTES))


def new_text(key_id: str, draw: Callable[[int], bytes]) -> str:
    return f"tw_{key_id}_{_letters(draw(_SECRET_BYTES))}"


def digest_of(text: str, secret: bytes) -> str:
    """The hash of a key's text under the installation's secret, in 64 hexadecimal digits."""
    data = text[:_LONGEST].encode("utf-8", "surrogatepass")
    return blake2b(data, key=secret, digest_size=32, person=b"tokenworks key").hexdigest()


def alias_of(text: str, secret: bytes) -> str:
    """A name, in 24 hexadecimal digits, for whoever sends a text that opens nothing. Only who has
    the secret can tell whether a guess of the text is right."""
    data = text[:_LONGEST].encode("utf-8", "surrogatepass")
    return blake2b(data, key=secret, digest_size=12, person=b"tokenworks alias").hexdigest()


def _letters(data: bytes) -> str:
    return b32encode(data).decode().lower().rstrip("=")

"""Who sends a request: the key it was sent with, and what that allows."""

import hmac
import secrets
from functools import partial
from hashlib import sha256
from typing import Final, Protocol

import msgspec

from tokenworks.accounts.keys import ROLES, Key, alias_of
from tokenworks.errors import UnknownCaller

OWNER: Final = "owner"
"""The tenant of the key file's key. It is no hash of that: whoever reads the ledger could try keys
until one has this hash. It stays when the key is changed."""

OWNER_PRIORITY: Final = 10


class KeyRing(Protocol):
    """Keys that were made here: `accounts.key_store.KeyStore`."""

    def __len__(self) -> int: ...

    def find(self, text: str) -> Key:
        """The key that this text opens now. Raises UnknownCaller."""
        ...

    def alias(self, text: str) -> str:
        """A name for whoever sends a text that opens nothing, which does not give it away."""
        ...


class Callers:
    """Knows callers by the key file's one key, and by the keys that were made here.

    Where there is neither, everybody may ask, but nobody may administer: the port is this machine's
    own then. Keys that such callers send all the same tell them apart, no more; without a ring,
    until this process ends.
    """

    def __init__(self, file_key: str | None, ring: KeyRing | None = None) -> None:
        # Digests have one length, so the comparison's time says nothing about the key.
        self._digest = sha256(file_key.encode()).digest() if file_key else None
        self._ring = ring
        self._alias = (
            partial(alias_of, secret=secrets.token_bytes(32)) if ring is None else ring.alias
        )

    @property
    def asks_for_key(self) -> bool:
        return self._digest is not None or bool(self._ring)

    def identify(self, text: str) -> Key:
        """Whose this text is. Raises UnknownCaller."""
        if not self.asks_for_key:
            return (
                _ANYONE if not text else msgspec.structs.replace(_ANYONE, tenant=self._alias(text))
            )
        if self._digest is not None:
            given = sha256(text.encode("utf-8", "surrogateescape")).digest()
            if hmac.compare_digest(given, self._digest):
                return _OWNER
        if text and self._ring:
            return self._ring.find(text)
        raise UnknownCaller(
            "This server asks for its key: send the header 'Authorization: Bearer KEY'"
        )


_ANYONE: Final = Key(id="", tenant="", priority_max=OWNER_PRIORITY)
_OWNER: Final = Key(
    id="", tenant=OWNER, role="admin", scopes=ROLES["admin"], priority_max=OWNER_PRIORITY
)

"""Who sends a request: the key it was sent with, and what that allows."""

import hmac
from hashlib import blake2b, sha256
from typing import Final, Protocol

import msgspec

from tokenworks.accounts.keys import ROLES, Key
from tokenworks.errors import UnknownCaller

OWNER_PRIORITY: Final = 10


class KeyRing(Protocol):
    """Keys that were made here: `accounts.key_store.KeyStore`."""

    def __len__(self) -> int: ...

    def find(self, text: str) -> Key:
        """The key that this text opens now. Raises UnknownCaller."""
        ...


class Callers:
    """Knows callers by the key file's one key, and by the keys that were made here.

    Where there is neither, everybody may ask, but nobody may administer: the port is this machine's
    own then. Keys that such callers send all the same tell them apart, no more.
    """

    def __init__(self, file_key: str | None, ring: KeyRing | None = None) -> None:
        # Digests have one length, so the comparison's time says nothing about the key.
        self._digest = sha256(file_key.encode()).digest() if file_key else None
        self._ring = ring

    @property
    def asks_for_key(self) -> bool:
        return self._digest is not None or bool(self._ring)

    def identify(self, text: str) -> Key:
        """Whose this text is. Raises UnknownCaller."""
        if not self.asks_for_key:
            return _ANYONE if not text else msgspec.structs.replace(_ANYONE, tenant=_alias(text))
        if self._digest is not None:
            given = sha256(text.encode("utf-8", "surrogateescape")).digest()
            if hmac.compare_digest(given, self._digest):
                return msgspec.structs.replace(_OWNER, tenant=_alias(text))
        if text and self._ring:
            return self._ring.find(text)
        raise UnknownCaller(
            "This server asks for its key: send the header 'Authorization: Bearer KEY'"
        )


_ANYONE: Final = Key(id="", tenant="", priority_max=OWNER_PRIORITY)
_OWNER: Final = Key(
    id="", tenant="", role="admin", scopes=ROLES["admin"], priority_max=OWNER_PRIORITY
)


def _alias(text: str) -> str:
    """A name for whoever sends this key. The same after a restart."""
    return blake2b(
        text.encode("utf-8", "surrogateescape"), digest_size=12, person=b"tokenworks key"
    ).hexdigest()

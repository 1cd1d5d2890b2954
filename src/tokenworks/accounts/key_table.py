"""Keys in memory: who sent this text? In a few microseconds, and the same for any text."""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tokenworks.accounts.keys import Key, digest_of
from tokenworks.accounts.limits import Allowance, Allowances
from tokenworks.errors import UnknownCaller


@dataclass(frozen=True, slots=True)
class Entry:
    """A text that opens a key, by its hash; after a rotation, the old one until `until`."""

    key: Key
    digest: str = field(repr=False)
    until: float | None = None


_NOBODY: Final = Entry(Key(id="", tenant=""), "0" * 64)


class KeyTable:
    """A snapshot of all keys and limits. Replaced as a whole when they change."""

    def __init__(
        self,
        secret: bytes,
        entries: Iterable[Entry] = (),
        limits: Mapping[str, Allowance] | None = None,
    ) -> None:
        self._secret = secret
        self._by_digest = {entry.digest: entry for entry in entries}
        self._count = len({entry.key.id for entry in self._by_digest.values()})
        self._limits = dict(limits or {})

    def __len__(self) -> int:
        return self._count

    def find(self, text: str, now: float) -> Key:
        """The key that this text opens at this moment.

        Raises UnknownCaller. Whether there is a key with such an id cannot be told from the time
        this takes: every text is hashed whole, looked up by a hash that nobody else can compute,
        and compared in constant time, with an entry that fits nothing if there is none.
        """
        digest = digest_of(text, self._secret)
        entry = self._by_digest.get(digest, _NOBODY)
        if not hmac.compare_digest(entry.digest, digest):
            raise UnknownCaller("This key is not known here", hint="check that it is whole")
        # Only who has the whole secret learns more than that.
        key = entry.key
        _check(key, now)
        if entry.until is not None and entry.until <= now:
            raise UnknownCaller(f"The key {key.id} was rotated, and its old secret no longer holds")
        return key

    def now(self, key: Key, now: float) -> Key:
        """The same key as it is at this moment. Raises UnknownCaller if it holds no longer."""
        found = next((one.key for one in self._by_digest.values() if one.key.id == key.id), None)
        if found is None:
            raise UnknownCaller(f"The key {key.id} is not known any more")
        _check(found, now)
        return found

    def allowances(self, key: Key) -> Allowances:
        """The limits that this key's requests count for: its own, its user's, its tenant's."""
        found = [(f"key:{key.id}", key.allowance)]
        for holder in key.caller.holders:
            if allowance := self._limits.get(holder):
                found.append((holder, allowance))
        return found


def _check(key: Key, now: float) -> None:
    if key.revoked_at is not None:  # whatever this machine's clock says of that moment
        raise UnknownCaller(f"The key {key.id} was revoked")
    if key.expires_at is not None and key.expires_at <= now:
        raise UnknownCaller(f"The key {key.id} has expired")

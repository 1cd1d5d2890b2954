"""Makes, rotates and revokes keys, and keeps this process's table of them up to date."""

import hmac
import secrets
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, TypeVar

import msgspec

from tokenworks.accounts import key_rows
from tokenworks.accounts.holders import check_holder, check_name
from tokenworks.accounts.key_table import KeyTable
from tokenworks.accounts.keys import (
    IssuedKey,
    Key,
    NewKey,
    alias_of,
    digest_of,
    new_id,
    new_text,
    scopes_of,
)
from tokenworks.accounts.limits import Allowance, Allowances
from tokenworks.errors import ConfigError, RequestError
from tokenworks.store import audit
from tokenworks.store.database import Database
from tokenworks.store.transaction import Transaction

T = TypeVar("T")

LONGEST_GRACE_S: Final = 90 * 86_400.0
"""How long an old secret may hold after a rotation."""

_CHECK: Final = "key secret"


class KeyStore:
    """Changes are audited, hold at once in this process, and in others at their next `refresh`.

    `secret` is the installation's (`store.secret`); processes that share a database share it.
    Raises ConfigError if the keys in the database were hashed under another one.
    """

    def __init__(
        self,
        database: Database,
        secret: bytes,
        *,
        wall: Callable[[], float] = time.time,
        draw: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._database = database
        self._secret = secret
        self._wall = wall
        self._draw = draw
        database.write_now(self._check_secret)
        self._seen, self._table = database.read_now(self._load)

    @property
    def table(self) -> KeyTable:
        return self._table

    def __len__(self) -> int:
        """How many keys there are, with those that were revoked: without any, nobody needs one."""
        return len(self._table)

    def find(self, text: str) -> Key:
        """The key that this text opens now. Raises UnknownCaller."""
        return self._table.find(text, self._wall())

    def now(self, key: Key) -> Key:
        """A key that was found before, as it is now. Raises UnknownCaller if it no longer holds."""
        return self._table.now(key, self._wall())

    def alias(self, text: str) -> str:
        """A name for whoever sends a text that opens nothing: the same after a restart."""
        return alias_of(text, self._secret)

    def allowances(self, key: Key) -> Allowances:
        return self._table.allowances(key)

    async def refresh(self) -> bool:
        """Load what other processes have changed; call it every half second or so.

        Whether anything had. A number that each change raises is compared first.
        """
        if await self._database.read(key_rows.changes) == self._seen:
            return False
        self._take(await self._database.read(self._load))
        return True

    async def all(self) -> list[Key]:
        return await self._database.read(key_rows.all_keys)

    async def create(self, new: NewKey, *, actor: str) -> IssuedKey:
        """Make a key. Raises RequestError naming the field that is wrong."""
        key = self._checked(new)
        text = new_text(key.id, self._draw)
        digest = digest_of(text, self._secret)

        def work(transaction: Transaction) -> None:
            key_rows.insert(transaction, key, digest)
            self._audit(transaction, actor, "key.create", key, msgspec.to_builtins(key))

        await self._change(work)
        return IssuedKey(key, text)

    async def rotate(self, key_id: str, *, actor: str, grace_s: float = 86_400.0) -> IssuedKey:
        """Give the key a new secret; the present one holds for `grace_s` seconds more.

        Raises RequestError if there is no such key, or it was revoked.
        """
        if not 0 <= grace_s <= LONGEST_GRACE_S:
            raise RequestError(
                f"grace_s {grace_s:g} is not between 0 and {LONGEST_GRACE_S:.0f}", param="grace_s"
            )
        text = new_text(key_id, self._draw)
        digest = digest_of(text, self._secret)

        def work(transaction: Transaction) -> Key:
            key = _existing(transaction, key_id)
            if key.revoked_at is not None:
                raise RequestError(f"The key {key.id} was revoked; make another one")
            key_rows.rotate(transaction, key_id, digest, self._wall() + grace_s)
            self._audit(transaction, actor, "key.rotate", key, {"grace_s": grace_s})
            return key

        return IssuedKey(await self._change(work), text)

    async def revoke(self, key_id: str, *, actor: str) -> None:
        """Let the key open nothing from now on. Raises RequestError if there is no such key."""

        def work(transaction: Transaction) -> None:
            key = _existing(transaction, key_id)
            key_rows.revoke(transaction, key_id, self._wall())
            self._audit(transaction, actor, "key.revoke", key, {})

        await self._change(work)

    async def limits(self) -> dict[str, Allowance]:
        """The rate limits there are, by holder."""
        return await self._database.read(key_rows.all_limits)

    async def set_limit(self, holder: str, allowance: Allowance, *, actor: str) -> bool:
        """Limit a key, a user or a tenant, in place of the limits it has; both None: no more.

        Whether it had any before. Raises RequestError for a holder or a number that cannot be.
        """
        holder = check_holder(holder)
        _check_allowance(allowance)

        def work(transaction: Transaction) -> bool:
            if holder.startswith("key:"):
                _existing(transaction, holder.removeprefix("key:"))
            had_some = holder in key_rows.all_limits(transaction)
            key_rows.set_limit(transaction, holder, allowance)
            audit.append(
                transaction,
                at=self._wall(),
                actor=actor,
                action="limit.set" if allowance != Allowance() else "limit.remove",
                subject=holder,
                details=msgspec.to_builtins(allowance),
            )
            return had_some

        return await self._change(work)

    async def _change(self, work: Callable[[Transaction], T]) -> T:
        result = await self._database.write(work)
        self._take(await self._database.read(self._load))
        return result

    def _take(self, loaded: tuple[int, KeyTable]) -> None:
        seen, table = loaded
        if seen >= self._seen:  # of two loads at once, the older one may end later
            self._seen, self._table = seen, table

    def _load(self, transaction: Transaction) -> tuple[int, KeyTable]:
        entries, limits = key_rows.all_entries(transaction), key_rows.limits(transaction)
        return key_rows.changes(transaction), KeyTable(self._secret, entries, limits)

    def _checked(self, new: NewKey) -> Key:
        _check_allowance(new.allowance)
        if not -10 <= new.priority_max <= 10:
            raise RequestError(
                f"priority_max {new.priority_max} is not between -10 and 10", param="priority_max"
            )
        now = self._wall()
        if new.expires_at is not None and not new.expires_at > now:
            raise RequestError("expires_at lies in the past", param="expires_at")
        return Key(
            id=new_id(self._draw),
            tenant=check_name(new.tenant, "tenant"),
            user=check_name(new.user, "user") if new.user else "",
            name=check_name(new.name, "name") if new.name else "",
            role=new.role,
            scopes=scopes_of(new.role, new.scopes),
            label=new.label,
            models=new.models,
            allowance=new.allowance,
            priority_max=new.priority_max,
            created_at=now,
            expires_at=new.expires_at,
        )

    def _audit(
        self, transaction: Transaction, actor: str, action: str, key: Key, details: object
    ) -> None:
        audit.append(
            transaction,
            at=self._wall(),
            actor=actor,
            action=action,
            subject=f"key:{key.id}",
            details={"about": details},
        )

    def _check_secret(self, transaction: Transaction) -> None:
        """Without this, a secret that was lost and made anew would look like wrong keys."""
        mark = blake2b(b"check", key=self._secret, person=b"tokenworks check").hexdigest()
        found = transaction.row("SELECT fact FROM facts WHERE name = ?", _CHECK)
        if found is None:
            transaction.run("INSERT INTO facts VALUES (?, ?)", _CHECK, mark)
        elif not hmac.compare_digest(found[0], mark):
            raise ConfigError(
                "The keys in the database were hashed under another secret than this "
                "installation's",
                hint="copy the file 'secret' of the state folder with which they were made",
            )


def _existing(transaction: Transaction, key_id: str) -> Key:
    key = key_rows.find(transaction, key_id)
    if key is None:
        raise RequestError(f"There is no key {key_id[:40]!r}", hint="GET /admin/keys lists them")
    return key


def _check_allowance(allowance: Allowance) -> None:
    for name in ("requests_per_minute", "tokens_per_minute"):
        number = getattr(allowance, name)
        if number is not None and not 0 <= number <= 2**53:
            raise RequestError(f"{name} {number} is not between 0 and 2**53", param=name)

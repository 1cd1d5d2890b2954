"""Keys as rows of the database."""

import json
from collections.abc import Mapping
from typing import Final

from tokenworks.accounts.key_table import Entry
from tokenworks.accounts.keys import Key
from tokenworks.accounts.limits import Allowance
from tokenworks.store.transaction import Row, Transaction

TOPIC: Final = "keys"
"""What `changes` counts for keys and limits."""

_COLUMNS: Final = (
    "id, tenant, user_name, name, role, scopes, label, models, requests_per_minute, "
    "tokens_per_minute, priority_max, created_at, expires_at, revoked_at"
)


def insert(transaction: Transaction, key: Key, digest: str) -> None:
    transaction.run(
        f"INSERT INTO keys ({_COLUMNS}, digest) VALUES ({', '.join('?' * 15)})",
        key.id,
        key.tenant,
        key.user,
        key.name,
        key.role,
        json.dumps(sorted(key.scopes)),
        key.label,
        json.dumps(key.models),
        key.allowance.requests_per_minute,
        key.allowance.tokens_per_minute,
        key.priority_max,
        key.created_at,
        key.expires_at,
        key.revoked_at,
        digest,
    )
    count_change(transaction)


def find(transaction: Transaction, key_id: str) -> Key | None:
    row = transaction.row(f"SELECT {_COLUMNS} FROM keys WHERE id = ?", key_id)
    return _key(row) if row else None


def all_keys(transaction: Transaction) -> list[Key]:
    rows = transaction.rows(f"SELECT {_COLUMNS} FROM keys ORDER BY created_at, id")
    return [_key(row) for row in rows]


def all_entries(transaction: Transaction) -> list[Entry]:
    """What opens each key; two texts of those that were rotated."""
    found = []
    rows = transaction.rows(f"SELECT digest, previous_digest, previous_until, {_COLUMNS} FROM keys")
    for digest, previous, until, *rest in rows:
        key = _key(tuple(rest))
        found.append(Entry(key, digest))
        if previous is not None:
            found.append(Entry(key, previous, until))
    return found


def rotate(transaction: Transaction, key_id: str, digest: str, until: float) -> None:
    """Another text opens the key; the present one does until then, one before it no more."""
    transaction.run(
        "UPDATE keys SET previous_digest = digest, previous_until = ?, digest = ? WHERE id = ?",
        until,
        digest,
        key_id,
    )
    count_change(transaction)


def revoke(transaction: Transaction, key_id: str, at: float) -> None:
    """A key that was revoked stays so from when it first was."""
    transaction.run(
        "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", at, key_id
    )
    count_change(transaction)


def is_revoked(transaction: Transaction, key_id: str) -> bool:
    row = transaction.row("SELECT revoked_at FROM keys WHERE id = ?", key_id)
    return row is not None and row[0] is not None


def set_limit(transaction: Transaction, holder: str, allowance: Allowance) -> None:
    """Limits of a key, a user or a tenant, in place of those it has; both None: none."""
    numbers = (allowance.requests_per_minute, allowance.tokens_per_minute)
    kind, _, key_id = holder.partition(":")
    if kind == "key":
        sql = "UPDATE keys SET requests_per_minute = ?, tokens_per_minute = ? WHERE id = ?"
        transaction.run(sql, *numbers, key_id)
    else:
        transaction.run("DELETE FROM rate_limits WHERE holder = ?", holder)
        if allowance != Allowance():
            transaction.run("INSERT INTO rate_limits VALUES (?, ?, ?)", holder, *numbers)
    count_change(transaction)


def all_limits(transaction: Transaction) -> dict[str, Allowance]:
    """By holder, in order: of tenants, users, and keys that were not revoked."""
    keys = {
        f"key:{key.id}": key.allowance
        for key in all_keys(transaction)
        if key.allowance != Allowance() and key.revoked_at is None
    }
    return dict(sorted({**limits(transaction), **keys}.items()))


def limits(transaction: Transaction) -> Mapping[str, Allowance]:
    """Those of users and tenants: keys have theirs with them."""
    rows = transaction.rows(
        "SELECT holder, requests_per_minute, tokens_per_minute FROM rate_limits"
    )
    return {
        holder: Allowance(requests_per_minute=requests, tokens_per_minute=tokens)
        for holder, requests, tokens in rows
    }


def count_change(transaction: Transaction) -> None:
    """In the transaction of the change: who sees the number sees what it counts."""
    transaction.run(
        "INSERT INTO changes VALUES (?, 1) "
        "ON CONFLICT (topic) DO UPDATE SET number = changes.number + 1",
        TOPIC,
    )


def changes(transaction: Transaction) -> int:
    row = transaction.row("SELECT number FROM changes WHERE topic = ?", TOPIC)
    return row[0] if row else 0


def _key(row: Row) -> Key:
    (key_id, tenant, user, name, role, scopes, label, models, *numbers) = row
    requests, tokens, priority_max, created_at, expires_at, revoked_at = numbers
    return Key(
        id=key_id,
        tenant=tenant,
        user=user,
        name=name,
        role=role,
        scopes=frozenset(json.loads(scopes)),
        label=label,
        models=tuple(json.loads(models)),
        allowance=Allowance(requests_per_minute=requests, tokens_per_minute=tokens),
        priority_max=priority_max,
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
    )

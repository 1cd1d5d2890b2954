"""`tokenworks keys`: who may ask, and what."""

import asyncio
import getpass
import time
from datetime import UTC, datetime

import msgspec
from rich.table import Table

from tokenworks.accounts.keys import IssuedKey, Key, NewKey
from tokenworks.cli.books import opened
from tokenworks.cli.console import aside, data
from tokenworks.config import Config
from tokenworks.gateway.labels import label_of

DAY_S = 86_400.0


def create(config: Config, new: NewKey, *, days: int | None, json: bool) -> None:
    """Make a key and show it, this once. Raises RequestError for what cannot be."""
    if new.label:
        word = label_of(new.label, param="label").word
        new = msgspec.structs.replace(new, label=word)
    if days is not None:
        new = msgspec.structs.replace(new, expires_at=time.time() + days * DAY_S)
    with opened(config) as books:
        issued = asyncio.run(books.keys.create(new, actor=actor()))
    _show(issued, json)


def rotate(config: Config, key_id: str, *, grace_hours: float, json: bool) -> None:
    """Give a key a new secret; the old one holds for a while."""
    with opened(config) as books:
        issued = asyncio.run(books.keys.rotate(key_id, actor=actor(), grace_s=grace_hours * 3600.0))
    _show(issued, json)


def revoke(config: Config, key_id: str) -> None:
    """Let a key open nothing from now on."""
    with opened(config) as books:
        asyncio.run(books.keys.revoke(key_id, actor=actor()))
    aside.print(f"revoked {key_id}: running factories know within a second")


def show(config: Config, *, json: bool) -> None:
    """All keys, without what they are."""
    with opened(config) as books:
        keys = asyncio.run(books.keys.all())
    if json:
        data.print(msgspec.json.encode(keys).decode())
        return
    if not keys:
        aside.print("no keys yet: tokenworks keys create --tenant NAME")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("key", "tenant", "user", "role", "label", "models", "state"):
        table.add_column(title)
    for key in keys:
        models = ", ".join(key.models) or "all"
        table.add_row(
            key.id, key.tenant, key.user, key.role, key.label, models, state_of(key, time.time())
        )
    data.print(table)


def state_of(key: Key, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "valid"
    if key.expires_at <= now:
        return "expired"
    return f"valid until {datetime.fromtimestamp(key.expires_at, UTC):%Y-%m-%d}"


def actor() -> str:
    """Whom the audit log names for what is done on the command line."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a user without a name
        return "cli"


def _show(issued: IssuedKey, json: bool) -> None:
    if json:
        shown = {"key": issued.text, **msgspec.to_builtins(issued.key)}
        data.print(msgspec.json.encode(shown).decode())
        return
    data.print(issued.text, soft_wrap=True)
    aside.print(
        f"the key of {issued.key.tenant}, id {issued.key.id}. It is shown this once: keep it safe"
    )

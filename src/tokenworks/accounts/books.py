"""Keys, budgets and the ledger of one installation, opened together."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tokenworks.accounts.budgets import Budgets
from tokenworks.accounts.key_store import KeyStore
from tokenworks.store.database import Database
from tokenworks.store.instances import claim
from tokenworks.store.secret import secret_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    database: Database
    keys: KeyStore
    budgets: Budgets


@contextmanager
def opened(url: str, secret: Path) -> Iterator[Books]:
    """`secret` is the file with what keys are hashed under, made if it is not there.

    Raises ConfigError or StoreError if the database or the secret cannot be used.
    """
    with Database(url) as database:
        keys = KeyStore(database, secret_at(secret))
        instance = claim(database)
        try:
            yield Books(database=database, keys=keys, budgets=Budgets(database, instance))
        finally:
            instance.close()

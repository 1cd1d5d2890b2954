"""Each test of rows runs on SQLite, and on PostgreSQL where there is a server."""

from collections.abc import Iterator

import pytest

from budgeting import Wall
from issued_keys import SECRET
from tokenworks.accounts.budgets import Budgets
from tokenworks.accounts.key_store import KeyStore
from tokenworks.store.database import Database
from tokenworks.store.instances import Instance, claim


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def instance(database: Database) -> Iterator[Instance]:
    instance = claim(database)
    yield instance
    instance.close()


@pytest.fixture
def budgets(database: Database, instance: Instance, wall: Wall) -> Budgets:
    return Budgets(database, instance, wall=wall)


@pytest.fixture
def store(database: Database, wall: Wall) -> KeyStore:
    return KeyStore(database, SECRET, wall=wall)

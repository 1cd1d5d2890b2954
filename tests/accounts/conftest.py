"""Each test of rows runs on SQLite, and on PostgreSQL where there is a server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from budgeting import Wall
from databases import PostgresServer, postgres_server
from issued_keys import SECRET
from tokenworks.accounts.budgets import Budgets
from tokenworks.accounts.key_store import KeyStore
from tokenworks.store.database import Database
from tokenworks.store.instances import Instance, claim


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'accounts.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url) as database:
        yield database


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

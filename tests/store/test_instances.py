"""Which processes that share a database are alive, with real ones that are killed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from databases import PostgresServer
from tokenworks.store.database import Database
from tokenworks.store.dialects import StoreError
from tokenworks.store.instances import Instance, claim

LIVE = """
import sys
from tokenworks.store.database import Database
from tokenworks.store.instances import claim
with Database(sys.argv[1]) as database:
    instance = claim(database)
    print(instance.id, flush=True)
    sys.stdin.read()
    instance.close()
"""


@contextmanager
def another(url: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", LIVE, url], **pipes) as process:
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def is_gone(database: Database, own: Instance, other: int) -> bool:
    return database.write_now(lambda transaction: own.is_gone(transaction, other))


def test_a_process_that_was_killed_is_gone_and_one_that_lives_is_not(
    database: Database, database_url: str
) -> None:
    own = claim(database)
    with another(database_url) as (process, other):
        assert not is_gone(database, own, other)
        assert not is_gone(database, own, own.id)

        process.kill()
        process.wait()
        # A server notices the end of a session a moment after the process is gone.
        assert any(is_gone(database, own, other) for _ in range(5000))
    own.close()


def test_a_process_that_ended_is_gone(database: Database, database_url: str) -> None:
    own = claim(database)
    with another(database_url) as (process, other):
        process.communicate("")
        assert process.returncode == 0

        assert any(is_gone(database, own, other) for _ in range(5000))
    own.close()


def test_two_instances_of_one_process_are_two(database_url: str) -> None:
    with Database(database_url) as one, Database(database_url) as two:
        first, second = claim(one), claim(two)

        assert first.id != second.id
        assert not is_gone(one, first, second.id)
        assert not is_gone(two, second, first.id)
        first.close()
        second.close()


def test_an_id_that_is_taken_is_not_given_again(database_url: str) -> None:
    with Database(database_url) as one, Database(database_url) as two:
        first = claim(one, draw=lambda most: 6)
        draws = iter([6, 6, 8])

        second = claim(two, draw=lambda most: next(draws))

        assert (first.id, second.id) == (7, 9)
        first.close()
        second.close()


def test_nothing_is_left_beside_the_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with another(url) as (process, _):
        process.kill()
        process.wait()
    assert len(list(tmp_path.glob("*.instance-*"))) == 1

    with Database(url) as database:
        own = claim(database)

        assert [path.name for path in tmp_path.glob("*.instance-*")] == [
            f"store.db.instance-{own.id}"
        ]
        own.close()

    assert list(tmp_path.glob("*.instance-*")) == []


def test_a_server_session_that_connects_anew_is_alive_again(postgres: PostgresServer) -> None:
    url = postgres.fresh()
    with Database(url) as one, Database(url) as two:
        first, second = claim(one), claim(two)

        with pytest.raises(StoreError):
            one.write_now(lambda t: t.run("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert any(is_gone(two, second, first.id) for _ in range(5000))

        one.write_now(lambda transaction: None)
        assert not is_gone(two, second, first.id)

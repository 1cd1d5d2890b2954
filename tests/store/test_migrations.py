"""Schemas go forward only, once, and whole."""

import subprocess
import sys

import pytest

from tokenworks.errors import ConfigError
from tokenworks.store.database import Database
from tokenworks.store.dialects import StoreError
from tokenworks.store.migrations import STEPS
from tokenworks.store.transaction import Transaction


def put(transaction: Transaction, name: str) -> None:
    transaction.run("INSERT INTO facts VALUES (?, 'x')", name)


def names(database: Database) -> list[str]:
    rows = database.read_now(lambda t: t.rows("SELECT name FROM facts ORDER BY name"))
    return [row[0] for row in rows]


def test_a_newer_schema_is_refused_and_left_alone(database_url: str) -> None:
    with Database(database_url, steps=(*STEPS, ("CREATE TABLE later (x BIGINT)",))):
        pass

    with pytest.raises(ConfigError, match=f"step {len(STEPS) + 1}, and this program knows"):
        Database(database_url)


def test_steps_that_a_database_lacks_are_run_and_keep_what_is_there(database_url: str) -> None:
    with Database(database_url) as database:
        database.write_now(lambda t: put(t, "old"))

    later = (*STEPS, ("ALTER TABLE facts ADD COLUMN more TEXT",))
    for _ in range(2):
        with Database(database_url, steps=later) as database:
            rows = database.read_now(lambda t: t.rows("SELECT name, fact, more FROM facts"))

            assert rows == [("old", "x", None)]


def test_a_step_that_fails_changes_nothing(database_url: str) -> None:
    Database(database_url).close()
    broken = (*STEPS, ("CREATE TABLE half (x BIGINT)", "CREATE TABLE nonsense ("))

    with pytest.raises(StoreError):
        Database(database_url, steps=broken)

    with Database(database_url, steps=(*STEPS, ("CREATE TABLE half (x BIGINT)",))) as database:
        assert database.read_now(lambda t: t.rows("SELECT * FROM half")) == []


OPEN = """
import sys
from tokenworks.store.database import Database
sys.stdin.readline()
with Database(sys.argv[1]) as database:
    database.write_now(lambda t: t.run("INSERT INTO facts VALUES (?, 'x')", sys.argv[2]))
"""


def test_processes_that_open_a_new_database_at_once_migrate_it_once(database_url: str) -> None:
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN, database_url, str(number)], **pipes)
        for number in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()

    assert [process.communicate()[1] for process in processes] == [""] * 4
    with Database(database_url) as database:
        assert names(database) == ["0", "1", "2", "3"]

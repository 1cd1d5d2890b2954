"""Units of work, group commit, migrations, and what happens when the database cannot."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from databases import PostgresServer
from tokenworks.errors import ConfigError
from tokenworks.store import checkpoints
from tokenworks.store.database import Database
from tokenworks.store.dialects import StoreError, dialect_of
from tokenworks.store.transaction import Transaction
from tokenworks.store.writer import Writer

PUT = "INSERT INTO facts VALUES (?, ?)"


def put(transaction: Transaction, name: str) -> str:
    transaction.run(PUT, name, "x")
    return name


def names(database: Database) -> list[str]:
    rows = database.read_now(lambda t: t.rows("SELECT name FROM facts ORDER BY name"))
    return [row[0] for row in rows]


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'store.db'}"


def test_what_was_written_is_there_when_opened_again(database_url: str) -> None:
    with Database(database_url) as database:
        assert database.write_now(lambda t: put(t, "one")) == "one"

    with Database(database_url) as database:
        assert names(database) == ["one"]


def test_units_that_wait_share_one_commit(tmp_path: Path) -> None:
    Database(url_in(tmp_path)).close()
    commits = []
    writer = Writer(dialect_of(url_in(tmp_path)), after_commit=lambda: commits.append(1))
    begun, go = threading.Event(), threading.Event()

    def slow(transaction: Transaction) -> None:
        begun.set()
        go.wait(10)

    async def main() -> list[str]:
        first = writer.submit(slow)
        begun.wait(10)
        waiting = [writer.submit(lambda t, n=n: put(t, f"{n:02d}")) for n in range(50)]
        go.set()
        await first
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == [f"{n:02d}" for n in range(50)]
    writer.close()
    assert len(commits) == 2


def test_a_unit_that_fails_leaves_nothing_and_harms_no_other(database: Database) -> None:
    def fail(transaction: Transaction) -> None:
        put(transaction, "bad")
        raise LookupError("no")

    def wrong(transaction: Transaction) -> None:
        put(transaction, "wrong")
        transaction.run("INSERT INTO nowhere VALUES (1)")

    async def main() -> list[object]:
        works = [fail, lambda t: put(t, "a"), wrong, lambda t: put(t, "a"), lambda t: put(t, "b")]
        return await asyncio.gather(
            *(database.submit(work) for work in works), return_exceptions=True
        )

    failed, one, unknown, twice, two = asyncio.run(main())

    assert isinstance(failed, LookupError)
    assert isinstance(unknown, Exception)
    assert isinstance(twice, Exception)
    assert (one, two) == ("a", "b")
    assert names(database) == ["a", "b"]


@pytest.mark.parametrize("kind", [StopIteration, SystemExit, KeyboardInterrupt, MemoryError])
def test_no_error_of_a_unit_ends_the_writer(tmp_path: Path, kind: type[BaseException]) -> None:
    def fail(transaction: Transaction) -> None:
        raise kind

    with Database(url_in(tmp_path)) as database:

        async def main() -> object:
            (outcome,) = await asyncio.gather(database.write(fail), return_exceptions=True)
            return outcome

        outcome = asyncio.run(main()) if kind in (StopIteration, MemoryError) else None
        with pytest.raises((kind, RuntimeError)):
            database.write_now(fail)

        assert outcome is None or isinstance(outcome, kind | RuntimeError)
        assert database.write_now(lambda t: put(t, "on")) == "on"


def test_a_unit_is_done_though_its_caller_is_cancelled(database: Database) -> None:
    async def main() -> None:
        task = asyncio.create_task(database.write(lambda t: put(t, "kept")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await database.write(lambda t: put(t, "later"))

    asyncio.run(main())

    assert names(database) == ["kept", "later"]


def test_a_reader_sees_one_moment(database: Database) -> None:
    def query(transaction: Transaction) -> tuple[int, int]:
        count = "SELECT count(*) FROM facts"
        (before,) = transaction.row(count) or (None,)
        database.write_now(lambda t: put(t, "meanwhile"))
        (after,) = transaction.row(count) or (None,)
        return before, after

    assert database.read_now(query) == (0, 0)
    assert names(database) == ["meanwhile"]


def test_a_closed_database_takes_nothing_more(database_url: str) -> None:
    database = Database(database_url)
    database.close()

    with pytest.raises(StoreError, match="closed"):
        database.write_now(lambda t: put(t, "late"))


KILLED = """
import sys, time
from tokenworks.store.database import Database
database = Database(sys.argv[1])
for number in range(10_000):
    name = f"{number:05d}"
    database.write_now(lambda t: t.run("INSERT INTO facts VALUES (?, 'x')", name))
    print(name, flush=True)
"""


def test_what_was_told_as_written_survives_kill_9(database_url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, database_url], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(100)]
        process.kill()
        told += process.stdout.read().split()

    with Database(database_url) as database:
        assert set(told) <= set(names(database))


FULL = """
import resource, sys
from tokenworks.store.database import Database
from tokenworks.store.dialects import StoreError
database = Database(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
write = lambda name: database.write_now(
    lambda t: t.run("INSERT INTO facts VALUES (?, ?)", name, "x" * 100_000))
write("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
failed = 0
for number in range(10):
    try:
        write(f"full {number}")
    except StoreError as error:
        assert "full" in str(error), error
        failed += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
write("after")
print(failed, *[row[0].split()[0] for row in database.read_now(
    lambda t: t.rows("SELECT name FROM facts ORDER BY name"))])
database.close()
"""


def test_a_full_disk_is_told_to_whoever_waits_and_survived(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FULL, url_in(tmp_path)], capture_output=True, text=True, timeout=60
    )

    assert run.stderr == ""
    failed, *rest = run.stdout.split()
    assert int(failed) >= 5
    assert rest.count("full") == 10 - int(failed)
    assert {"after", "before"} <= set(rest)


def test_a_locked_file_is_told_to_whoever_waits_and_survived(tmp_path: Path) -> None:
    with Database(url_in(tmp_path), busy_s=0.1) as database:
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        async def main() -> list[object]:
            works = [database.submit(lambda t, n=n: put(t, n)) for n in ("a", "b")]
            return await asyncio.gather(*works, return_exceptions=True)

        outcomes = asyncio.run(main())
        other.execute("ROLLBACK")
        other.close()
        database.write_now(lambda t: put(t, "c"))

        assert [type(outcome) for outcome in outcomes] == [StoreError, StoreError]
        assert "held it for too long" in str(outcomes[0])
        assert names(database) == ["c"]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"not a database" * 1000)

    with pytest.raises(StoreError, match="no SQLite database"):
        Database(url_in(tmp_path))


def test_the_database_is_its_owners(tmp_path: Path) -> None:
    with Database(url_in(tmp_path)) as database:
        database.write_now(lambda t: put(t, "x"))
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("store.db*")
        }

    assert set(modes.values()) == {0o600}, modes


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "mysql://a@b/c", "nonsense", "", "postgresql://host"],
)
def test_a_url_that_names_no_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="names no database"):
        Database(url)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        Database(f"sqlite:///{tmp_path / 'nowhere' / 'store.db'}")


def test_the_log_of_writes_does_not_grow_with_them(tmp_path: Path) -> None:
    log = tmp_path / "store.db-wal"
    with Database(url_in(tmp_path)) as database:

        def write(transaction: Transaction) -> None:
            transaction.run("INSERT INTO facts VALUES ('big', ?)", "x" * 400_000)
            transaction.run("DELETE FROM facts")

        deadline = time.monotonic() + 3.5
        written = 0
        while time.monotonic() < deadline:
            database.write_now(write)
            written += 1
            time.sleep(0.02)
        size = log.stat().st_size

    assert size < written * 400_000 * 0.8


def test_a_log_that_no_checkpoint_catches_up_with_is_started_anew_by_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()

    def never_caught_up(core: object) -> int:
        looked.set()
        return checkpoints.MOST_PAGES + 1

    monkeypatch.setattr(checkpoints, "_checkpoint", never_caught_up)
    log = tmp_path / "store.db-wal"
    with Database(url_in(tmp_path)) as database:
        database.write_now(lambda t: t.run(PUT, "big", "x" * 4_000_000))
        assert looked.wait(10)
        for number in range(20):
            time.sleep(0.02)
            database.write_now(lambda t, n=number: put(t, str(n)))
        database.write_now(lambda t: t.run(PUT, "again", "x" * 3_000_000))

        assert log.stat().st_size < 5_000_000


def test_a_server_that_ends_our_session_is_told_and_survived(postgres: PostgresServer) -> None:
    with Database(postgres.fresh()) as database:

        def ended(transaction: Transaction) -> None:
            put(transaction, "half")
            transaction.run("SELECT pg_terminate_backend(pg_backend_pid())")

        with pytest.raises(StoreError, match="could not be used"):
            database.write_now(ended)
        database.write_now(lambda t: put(t, "whole"))

        assert names(database) == ["whole"]

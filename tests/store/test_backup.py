"""Backups and restores of real databases with real keys and bills, and what must be refused."""

import asyncio
import os
import sqlite3
import stat
import tarfile
import threading
from contextlib import closing
from pathlib import Path

import pytest

from installations import AT, backed_up, books_of, filled, place_at, restored, seen, spend
from tokenworks.accounts.books import Books
from tokenworks.errors import ConfigError, UnknownCaller
from tokenworks.store import audit, backup_file, backup_switch
from tokenworks.store.backup import Place, take
from tokenworks.store.dialects import StoreError
from tokenworks.store.migrations import STEPS

SAYS_OF_ONE_MOMENT = (
    "SELECT count(*) FROM requests",
    "SELECT coalesce(sum(money), 0) FROM entries",
    "SELECT count(DISTINCT request_id) FROM entries",
    "SELECT count(*) FROM requests JOIN reservations ON id = request_id AND lost = 0",
)


@pytest.fixture
def origin(tmp_path: Path) -> Place:
    return place_at(tmp_path / "origin")


@pytest.fixture
def other(tmp_path: Path) -> Place:
    return place_at(tmp_path / "other")


def test_a_restored_key_works_and_the_bill_is_the_same(
    tmp_path: Path, origin: Place, other: Place
) -> None:
    key = filled(origin)
    before = seen(origin, key)
    file = backed_up(origin, tmp_path / "all.backup")
    done = restored(other, file)

    assert seen(other, key) == before
    assert before[1][0].money == 2000
    assert before[2] is None
    assert done.kept == ()
    assert other.policies is not None
    assert other.policies.read_text() == '[labels]\ndefault = "internal"\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    left = sorted(path.name for path in other.folder.iterdir())
    assert left == [
        "policies.toml",
        "restore.lock",
        "secret",
        "tokenworks.db",
        "tokenworks.db.lock",
    ]


def test_any_program_that_reads_tar_archives_reads_a_backup(tmp_path: Path, origin: Place) -> None:
    filled(origin, requests=3)
    file = backed_up(origin, tmp_path / "all.backup")
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path / "out", filter="data")

    with closing(sqlite3.connect(tmp_path / "out" / "database.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM requests").fetchone() == (3,)
    assert (tmp_path / "out" / "secret").read_bytes() == origin.secret.read_bytes()


def test_a_backup_during_writes_is_a_view_of_one_moment(
    tmp_path: Path, origin: Place, other: Place
) -> None:
    """All the while requests are reserved and settled: in none of the copies one is half there."""
    filled(origin, requests=1)
    copies: list[Path] = []
    ended = threading.Event()

    async def write(books: Books) -> int:
        number = 1
        while not ended.is_set():
            await asyncio.gather(*(spend(books, number + index) for index in range(20)))
            number += 20
        return number

    def back_up() -> None:
        try:
            for number in range(5):
                copies.append(backed_up(origin, tmp_path / f"{number}.backup"))
        finally:
            ended.set()

    with books_of(origin) as books:
        thread = threading.Thread(target=back_up)
        thread.start()
        written = asyncio.run(write(books))
        thread.join()
    assert len(copies) == 5

    counts = []
    for file in copies:
        restored(other, file, replace=True)
        with closing(sqlite3.connect(other.folder / "tokenworks.db")) as database:
            found = [database.execute(sql).fetchone()[0] for sql in SAYS_OF_ONE_MOMENT]
            unbalanced = "SELECT request_id FROM entries GROUP BY 1 HAVING sum(money) <> 0"
            assert database.execute(unbalanced).fetchall() == []
        requests, balance, in_the_ledger, in_both = found
        assert (balance, in_the_ledger, in_both) == (0, requests, 0)
        counts.append(requests)
    assert counts == sorted(counts)
    assert 1 <= counts[0] < counts[-1] <= written


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999, 1.0])
def test_a_flipped_byte_is_refused_wherever_it_is(
    tmp_path: Path, origin: Place, other: Place, share: float
) -> None:
    filled(origin, requests=2)
    file = backed_up(origin, tmp_path / "all.backup")
    data = bytearray(file.read_bytes())
    data[int(share * (len(data) - 1))] ^= 0x10
    file.write_bytes(data)

    with pytest.raises(ConfigError, match="damaged"):
        restored(other, file)
    assert not other.secret.exists()
    assert [path.name for path in other.folder.iterdir()] == ["restore.lock"]


@pytest.mark.parametrize("length", [0, 71, 10_000])
def test_a_file_that_was_cut_short_is_refused(
    tmp_path: Path, origin: Place, other: Place, length: int
) -> None:
    filled(origin, requests=2)
    file = backed_up(origin, tmp_path / "all.backup")
    os.truncate(file, length)

    with pytest.raises(ConfigError, match="damaged, cut short"):
        restored(other, file)


def test_a_newer_schema_is_refused(tmp_path: Path, origin: Place, other: Place) -> None:
    filled(origin, requests=2)
    with closing(sqlite3.connect(origin.folder / "tokenworks.db")) as database, database:
        database.execute("INSERT INTO schema_steps VALUES (?, 0)", (len(STEPS) + 1,))
    with pytest.raises(ConfigError, match="newer"):
        backed_up(origin, tmp_path / "all.backup")


def test_an_older_schema_is_brought_up_to_date(tmp_path: Path, origin: Place, other: Place) -> None:
    """A backup of a program that knew the first step alone."""
    from tokenworks.store.database import Database

    with Database(origin.database, steps=STEPS[:1]) as old:
        old.write_now(lambda t: audit.append(t, at=AT, actor="a", action="b", subject="c"))
    origin.secret.write_bytes(b"s" * 32)
    assert origin.policies is not None
    origin.policies.write_text("")
    restored(other, backed_up(origin, tmp_path / "all.backup"))

    other.secret.chmod(0o600)
    with books_of(other) as books:
        steps = books.database.read_now(lambda t: t.rows("SELECT step FROM schema_steps"))
        assert len(steps) == len(STEPS)
        rows = books.database.read_now(audit.read)
    assert [row.action for row in rows] == ["b", "state.restore"]


def test_a_running_server_is_never_restored_under(
    tmp_path: Path, origin: Place, other: Place
) -> None:
    filled(origin, requests=2)
    file = backed_up(origin, tmp_path / "all.backup")
    with books_of(other), pytest.raises(ConfigError, match="program uses this state"):
        restored(other, file, replace=True)
    restored(other, file, replace=True)


def test_a_database_that_another_program_has_open_is_not_replaced(
    tmp_path: Path, origin: Place, other: Place
) -> None:
    filled(origin, requests=2)
    file = backed_up(origin, tmp_path / "all.backup")
    key = filled(other)
    before = seen(other, key)
    with closing(sqlite3.connect(other.folder / "tokenworks.db")) as shell:
        shell.execute("SELECT count(*) FROM requests").fetchall()
        with pytest.raises(ConfigError, match="program uses this state"):
            restored(other, file, replace=True)
    assert seen(other, key) == before


def test_a_state_that_is_there_is_replaced_only_if_asked_and_kept_aside(
    tmp_path: Path, origin: Place, other: Place
) -> None:
    key = filled(origin, requests=3)
    file = backed_up(origin, tmp_path / "all.backup")
    old_key = filled(other, requests=5)
    old = seen(other, old_key)
    with pytest.raises(ConfigError, match="already"):
        restored(other, file)
    assert seen(other, old_key) == old

    done = restored(other, file, replace=True)
    assert seen(other, key)[1][0].money == 300
    with pytest.raises(UnknownCaller):
        seen(other, old_key)
    # What was kept is the whole of the old state, under other names.
    assert len(done.kept) == 3
    back = place_at(tmp_path / "back")
    for path in done.kept:
        path.rename(back.folder / path.name.partition(".before-")[0])
    assert seen(back, old_key) == old


def test_a_damaged_database_can_be_replaced_and_is_kept(
    tmp_path: Path, origin: Place, other: Place
) -> None:
    key = filled(origin, requests=3)
    file = backed_up(origin, tmp_path / "all.backup")
    filled(other, requests=5)
    database = other.folder / "tokenworks.db"
    database.write_bytes(b"not a database at all" * 500)
    done = restored(other, file, replace=True)

    assert seen(other, key)[1][0].money == 300
    assert any(path.read_bytes().startswith(b"not a database") for path in done.kept)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root restores for somebody else")
def test_what_root_restores_belongs_to_whose_folder_it_is(
    tmp_path: Path, origin: Place, other: Place
) -> None:
    """A service runs as a user of its own, who must be able to open all of it."""
    key = filled(origin, requests=2)
    file = backed_up(origin, tmp_path / "all.backup")
    os.chown(other.folder, 12345, 12345)
    restored(other, file)
    owners = {path.name: path.stat().st_uid for path in other.folder.iterdir()}

    assert set(owners.values()) == {12345}, owners
    assert other.policies is not None
    other.policies.chmod(0o644)
    os.chown(other.policies, 54321, 54321)
    restored(other, file, replace=True)
    there = other.policies.stat()
    assert (there.st_uid, stat.S_IMODE(there.st_mode)) == (54321, 0o644)
    assert seen(other, key)[0] == "acme"


def test_a_full_disk_leaves_what_was_there_and_says_why(
    tmp_path: Path, origin: Place, other: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(origin, requests=2)
    key = filled(other, requests=3)
    before = seen(other, key)
    file = backed_up(origin, tmp_path / "all.backup")

    def full(*given: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup_switch, "write_atomic", full)
    with pytest.raises(StoreError, match="No space left"):
        restored(other, file, replace=True)
    monkeypatch.setattr(backup_file.tarfile, "open", full)
    with pytest.raises(StoreError, match="No space left"):
        backed_up(other, tmp_path / "never.backup")
    monkeypatch.undo()

    assert seen(other, key) == before
    assert not [path for path in other.folder.iterdir() if "restoring" in path.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.backup", "origin", "other"]


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path, origin: Place) -> None:
    filled(origin, requests=1)
    file = backed_up(origin, tmp_path / "all.backup")
    with pytest.raises(ConfigError, match="already"):
        backed_up(origin, file)
    take(origin, file, program="0.1.0", at=AT, replace=True)

"""The same with a PostgreSQL server on either side."""

from pathlib import Path

import pytest

from databases import PostgresServer
from installations import backed_up, books_of, filled, place_at, restored, seen
from tokenworks.errors import ConfigError, UnknownCaller
from tokenworks.store import backup_restore, backup_switch
from tokenworks.store.dialects import StoreError


def test_a_backup_goes_from_sqlite_to_postgresql_and_back(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    origin = place_at(tmp_path / "origin")
    key = filled(origin)
    before = seen(origin, key)
    server = place_at(tmp_path / "server", postgres.fresh())
    restored(server, backed_up(origin, tmp_path / "first.backup"))
    assert seen(server, key) == before

    back = place_at(tmp_path / "back")
    restored(back, backed_up(server, tmp_path / "second.backup"))
    assert seen(back, key) == before


def test_what_a_postgresql_server_had_is_kept_as_a_backup(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    origin = place_at(tmp_path / "origin")
    key = filled(origin, requests=3)
    file = backed_up(origin, tmp_path / "all.backup")
    server = place_at(tmp_path / "server", postgres.fresh())
    old_key = filled(server, requests=5)
    old = seen(server, old_key)
    with pytest.raises(ConfigError, match="already"):
        restored(server, file)
    assert seen(server, old_key) == old

    done = restored(server, file, replace=True)
    assert seen(server, key)[1][0].money == 300
    with pytest.raises(UnknownCaller):
        seen(server, old_key)
    back = place_at(tmp_path / "back")
    restored(back, next(path for path in done.kept if path.suffix == ".backup"))
    assert seen(back, old_key) == old


def test_a_postgresql_database_in_use_is_not_restored_under(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    origin = place_at(tmp_path / "origin")
    filled(origin, requests=2)
    file = backed_up(origin, tmp_path / "all.backup")
    server = place_at(tmp_path / "server", postgres.fresh())
    with books_of(server), pytest.raises(ConfigError, match="program uses this state"):
        restored(server, file, replace=True)
    restored(server, file, replace=True)


def test_a_restore_that_fails_leaves_a_postgresql_database_as_it_was(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = place_at(tmp_path / "origin")
    filled(origin, requests=3)
    file = backed_up(origin, tmp_path / "all.backup")
    server = place_at(tmp_path / "server", postgres.fresh())
    key = filled(server, requests=5)
    before = seen(server, key)

    def full(*given: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup_restore.audit, "append", full)
    with pytest.raises(StoreError, match="No space left"):
        restored(server, file, replace=True)
    monkeypatch.undo()
    assert seen(server, key) == before
    assert not [path for path in server.folder.iterdir() if "restoring" in path.name]


def test_files_follow_a_postgresql_database_that_was_changed_before_a_kill(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has committed; the secret and the policies are still the old ones."""
    origin = place_at(tmp_path / "origin")
    key = filled(origin, requests=3)
    file = backed_up(origin, tmp_path / "all.backup")
    server = place_at(tmp_path / "server", postgres.fresh())
    filled(server, requests=5)

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backup_switch, "end", killed)
    with pytest.raises(KeyboardInterrupt):
        restored(server, file, replace=True)
    monkeypatch.undo()
    assert seen(server, key)[1][0].money == 300

"""Restores a backup: into SQLite or PostgreSQL, whichever it was made from."""

import os
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import gmtime, strftime

from tokenworks.errors import ConfigError
from tokenworks.store import audit, backup_file, backup_switch
from tokenworks.store.backup import Place, working_folder, write
from tokenworks.store.backup_file import Backup, Manifest
from tokenworks.store.backup_rows import copy, selecting, step_of, tables_of
from tokenworks.store.backup_switch import Journal, Move
from tokenworks.store.database import Database
from tokenworks.store.dialects import Dialect, Sqlite, StoreError, dialect_of
from tokenworks.store.files import file_lock
from tokenworks.store.instances import running
from tokenworks.store.migrations import STEPS, migrate
from tokenworks.store.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """`kept` is where the state that was there before lies now, `policies` where the new ones."""

    manifest: Manifest
    kept: tuple[Path, ...]
    policies: Path | None


@dataclass(frozen=True, slots=True)
class _Restore:
    """One restore of `backup` to `place`. `stamp` ends the names of what is kept aside."""

    place: Place
    backup: Backup
    journal: Journal
    contents: Sequence[bytes]
    program: str
    at: float
    stamp: str
    replace: bool


def restore(
    place: Place,
    path: Path,
    *,
    program: str,
    at: float,
    replace: bool = False,
    draw: Callable[[int], str] = secrets.token_hex,
) -> Restored:
    """Put the state that is in the backup at `path` in place of the one that is there.

    All of it, or nothing. Raises ConfigError if the backup is damaged or of a newer program, if a
    program uses the state, or if there is one and not `replace`; StoreError.
    """
    finish(place)
    with (
        backup_switch.alone(place.folder),
        working_folder(place.folder, backup_switch.WORKING) as folder,
        backup_file.opened(path, folder) as backup,
    ):
        schema = _schema_of(path, backup)
        stamp = strftime("%Y%m%dT%H%M%SZ", gmtime(at))
        dialect = dialect_of(place.database)
        place = _with_policies(place, backup)
        files, contents = _files(place, backup, stamp)
        moved = _move(dialect.path, stamp) if isinstance(dialect, Sqlite) else None
        journal = Journal(id=draw(16), database=moved, files=files)
        work = _Restore(place, backup, journal, contents, program, at, stamp, replace)
        into = _into_sqlite if isinstance(dialect, Sqlite) else _into_postgres
        try:
            kept = into(work, dialect, schema)  # type: ignore[arg-type]
        except BaseException as problem:
            backup_switch.decide(place.folder, dialect, journal)
            if isinstance(problem, OSError):
                why = problem.strerror or str(problem)
                raise StoreError(f"The backup cannot be restored here: {why}") from None
            raise
        backup_switch.end(place.folder, journal)
    kept += tuple(there for move in files if (there := Path(move.aside)).exists())
    new_policies = place.policies if backup.policies is not None else None
    return Restored(manifest=backup.manifest, kept=kept, policies=new_policies)


def finish(place: Place) -> None:
    """Complete or undo a restore that was killed half way. To be called before the state is used.

    Raises StoreError if the database cannot be asked which of the two.
    """
    backup_switch.finish(place.folder, dialect_of(place.database))


def _into_sqlite(work: _Restore, dialect: Sqlite, schema: int) -> tuple[Path, ...]:
    move = work.journal.database
    assert move is not None
    lock = dialect.path.with_name(f"{dialect.path.name}.lock")
    with file_lock(lock):
        backup_switch.for_its_owner(lock)
        if running(dialect):
            raise _is_running()
        if not work.replace and (dialect.path.exists() or work.place.secret.exists()):
            raise _is_there()
        backup_switch.begin(work.place.folder, work.journal, work.contents)
        staged = Path(move.staged)
        # Older schemas are brought up to date by the steps that came after them.
        with (
            Database(f"sqlite:///{staged}", steps=STEPS[:schema]) as new,
            selecting(work.backup.database) as source,
        ):
            new.write_now(lambda target: copy(source.execute, target, STEPS[:schema]))
        with Database(f"sqlite:///{staged}", survive_power_cut=True) as new:
            new.write_now(partial(_sign, work))
        _sync(staged)
        kept = _close_up(dialect.path, work.stamp)
        backup_switch.swap(move)
    return (*kept, *(there for there in (Path(move.aside),) if there.exists()))


def _into_postgres(work: _Restore, dialect: Dialect, schema: int) -> tuple[Path, ...]:
    try:
        with dialect.connect() as core:
            transaction = dialect.transaction(core)
            for statement in dialect.begin:
                transaction.run(statement)
            if running(dialect, transaction):
                raise _is_running()
            there = transaction.row("SELECT to_regclass('schema_steps')") != (None,)
            if not work.replace and (there or work.place.secret.exists()):
                raise _is_there()
            kept = _kept_apart(work) if there else ()
            _remove_tables(transaction, there)
            backup_switch.begin(work.place.folder, work.journal, work.contents)
            migrate(transaction, STEPS[:schema], work.at)
            with selecting(work.backup.database) as source:
                copy(source.execute, transaction, STEPS[:schema])
            migrate(transaction, STEPS, work.at)
            _sign(work, transaction)
            transaction.run("COMMIT")
    except (ConfigError, StoreError):
        raise
    except Exception as problem:
        raise dialect.explain(problem) from problem
    return kept


def _sign(work: _Restore, transaction: Transaction) -> None:
    """The new database says what it is, to people and to whoever finds the journal."""
    backup_switch.mark(transaction, work.journal)
    made_at = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(work.backup.manifest.made_at))
    audit.append(
        transaction,
        at=work.at,
        actor="owner",
        action="state.restore",
        subject="installation",
        details={"made_at": made_at, "made_by": work.backup.manifest.program},
    )


def _kept_apart(work: _Restore) -> tuple[Path, ...]:
    """A backup of what a PostgreSQL server has now: it cannot be put aside like a file."""
    kept = work.place.folder / f"before-{work.stamp}.backup"
    secret = work.place.secret.read_bytes() if work.place.secret.exists() else None
    policies = work.place.policies
    there = replace(work.place, policies=policies if policies and policies.exists() else None)
    write(there, kept, secret, program=work.program, at=work.at)
    return (kept,)


def _remove_tables(transaction: Transaction, there: bool) -> None:
    if there and step_of(transaction.rows) > len(STEPS):
        raise ConfigError(
            "The database that is there is of a newer Tokenworks", hint="update this program"
        )
    for table in (*tables_of(STEPS), "schema_steps"):
        transaction.run(f"DROP TABLE IF EXISTS {table}")


def _close_up(path: Path, stamp: str) -> tuple[Path, ...]:
    """Leave all of an old SQLite database in its one file. Of one that is damaged, what is beside
    it is put aside. Raises ConfigError if a program has it open."""
    if not path.exists():
        return ()
    damaged = False
    try:
        with closing(sqlite3.connect(path)) as core:
            core.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.DatabaseError:
        damaged = True
    kept = []
    for end in ("-wal", "-shm"):
        beside = path.with_name(path.name + end)
        if not beside.exists():
            continue
        if not damaged:
            raise _is_running()  # whoever closes a database last leaves nothing beside it
        kept.append(beside.with_name(f"{beside.name}.before-{stamp}"))
        os.replace(beside, kept[-1])
    return tuple(kept)


def _schema_of(path: Path, backup: Backup) -> int:
    schema = backup.manifest.schema
    if schema > len(STEPS):
        raise ConfigError(
            f"The backup {path} is of a newer Tokenworks: its schema is at step {schema}, "
            f"and this program knows {len(STEPS)}",
            hint="update this program",
        )
    with selecting(backup.database) as source, suppress(sqlite3.DatabaseError):
        if step_of(source.execute) == schema:
            return schema
    raise ConfigError(f"The backup {path} holds another database than it says")


def _with_policies(place: Place, backup: Backup) -> Place:
    if backup.policies is None or place.policies is not None:
        return place
    return replace(place, policies=place.folder / backup_file.POLICIES)


def _files(place: Place, backup: Backup, stamp: str) -> tuple[tuple[Move, ...], tuple[bytes, ...]]:
    wanted = [(place.secret, backup.secret)]
    if place.policies is not None:
        wanted.append((place.policies, backup.policies))
    found = [(_move(path.absolute(), stamp), data) for path, data in wanted if data is not None]
    return tuple(move for move, _ in found), tuple(data for _, data in found)


def _move(path: Path, stamp: str) -> Move:
    aside = path.with_name(f"{path.name}.before-{stamp}")
    return Move(staged=f"{path}.restoring", path=str(path), aside=str(aside))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_running() -> ConfigError:
    return ConfigError(
        "A program uses this state: it would go on with what is replaced",
        hint="stop `tokenworks up` first, on every machine that shares the database",
    )


def _is_there() -> ConfigError:
    return ConfigError(
        "There are keys and books here already",
        hint="add --replace: what is there is kept aside, under another name",
    )

"""Puts several files in place as one, with a database: all of them, or none, also after a kill.

The new files lie beside the old ones, and a journal names them, before the database changes. That
change is one step, and leaves the journal's id in the database: whoever opens it next finds by the
id whether the other files have to follow, or to go.
"""

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from tokenworks.store.dialects import Dialect, Sqlite
from tokenworks.store.files import PARTIAL_SUFFIX, file_lock, sync_folder, write_atomic
from tokenworks.store.transaction import Transaction

FACT: Final = "restored"
"""The fact in the database that holds the id of the newest restore."""

WORKING: Final = "restore"
"""Begins the name of the folder in which a restore works."""

_JOURNAL, _LOCK = "restoring.json", "restore.lock"


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is to stand at `path`, from `staged`; what stood there goes to `aside`."""

    staged: str
    path: str
    aside: str


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """`database` is the move of an SQLite database, by which all is decided; of others None."""

    id: str
    database: Move | None
    files: tuple[Move, ...]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other restore runs here meanwhile; what killed ones were working on is removed."""
    with file_lock(folder / _LOCK):
        for_its_owner(folder / _LOCK)
        for left in folder.glob(f".{WORKING}.*{PARTIAL_SUFFIX}"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def begin(folder: Path, journal: Journal, contents: Sequence[bytes]) -> None:
    """Write the journal and the new files beside the old ones; nothing has changed yet."""
    write_atomic(folder / _JOURNAL, msgspec.json.encode(journal))
    for move, data in zip(journal.files, contents, strict=True):
        write_atomic(Path(move.staged), data)


def mark(transaction: Transaction, journal: Journal) -> None:
    """To be done in the new database."""
    transaction.run("DELETE FROM facts WHERE name = ?", FACT)
    transaction.run("INSERT INTO facts VALUES (?, ?)", FACT, journal.id)


def end(folder: Path, journal: Journal) -> None:
    """The new database is there: the files follow."""
    for move in journal.files:
        swap(move)
    if journal.database is not None:
        Path(f"{journal.database.staged}.lock").unlink(missing_ok=True)
    (folder / _JOURNAL).unlink(missing_ok=True)
    sync_folder(folder)


def abandon(folder: Path, journal: Journal) -> None:
    """The old database is there still: the new files go."""
    for move in (journal.database, *journal.files):
        if move is not None:
            _forget(move)
    (folder / _JOURNAL).unlink(missing_ok=True)


def finish(folder: Path, dialect: Dialect) -> None:
    """Complete or undo a restore that was killed, if there was one."""
    if not (folder / _JOURNAL).exists():
        return
    with alone(folder), suppress(FileNotFoundError):
        journal = msgspec.json.decode((folder / _JOURNAL).read_bytes(), type=Journal)
        decide(folder, dialect, journal)


def decide(folder: Path, dialect: Dialect, journal: Journal) -> None:
    """The files follow if the database was changed, else they go."""
    (end if _is_marked(dialect, journal) else abandon)(folder, journal)


def swap(move: Move) -> None:
    """In one step, as often as it is done. What stood there is kept aside."""
    staged, path, aside = Path(move.staged), Path(move.path), Path(move.aside)
    if not staged.exists():
        return
    if path.exists() and not aside.exists():
        try:
            os.link(path, aside)
        except OSError:  # a file system without links
            shutil.copy2(path, aside)
    _own_like(path if path.exists() else path.parent, staged)
    os.replace(staged, path)
    sync_folder(path.parent)


def for_its_owner(path: Path) -> None:
    """Where root works in somebody's folder: what it makes there is theirs."""
    if path.exists():
        _own_like(path.parent, path)


def _own_like(there: Path, new: Path) -> None:
    """Who could read the old file can read the new one: a service does not run as root."""
    found = there.stat()
    if there.is_file():
        os.chmod(new, stat.S_IMODE(found.st_mode))
    if os.geteuid() == 0:
        os.chown(new, found.st_uid, found.st_gid)


def _is_marked(dialect: Dialect, journal: Journal) -> bool:
    if isinstance(dialect, Sqlite):
        if not dialect.path.exists():
            return False
        try:
            with closing(sqlite3.connect(dialect.path)) as core:
                found = core.execute("SELECT fact FROM facts WHERE name = ?", (FACT,)).fetchall()
        except sqlite3.DatabaseError:
            return False
        return found == [(journal.id,)]
    with dialect.connect() as core:
        transaction = dialect.transaction(core)
        if transaction.row("SELECT to_regclass('facts')") == (None,):
            return False
        return transaction.row("SELECT fact FROM facts WHERE name = ?", FACT) == (journal.id,)


def _forget(move: Move) -> None:
    staged, path, aside = Path(move.staged), Path(move.path), Path(move.aside)
    for end in ("", "-wal", "-shm", "-journal", ".lock"):
        staged.with_name(staged.name + end).unlink(missing_ok=True)
    # The old file has two names if the kill came between giving it the second and the swap.
    if aside.exists() and path.exists() and aside.samefile(path):
        aside.unlink()

"""Databases for tests: SQLite files, and a PostgreSQL server of the tests' own."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

STARTED_WITHIN_S = 60.0


def lacking(reason: str) -> None:
    """Without a server these tests are skipped by people and fail in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def programs() -> Path:
    """The folder of PostgreSQL's server programs."""
    places = [shutil.which("initdb"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    for place in filter(None, places):
        return Path(place).resolve().parent
    lacking("no PostgreSQL server on this machine: make system-deps installs it")
    raise AssertionError


def server_account() -> dict[str, Any]:
    """Arguments for `subprocess`: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    lacking("PostgreSQL does not run as root, and there is no other account")
    raise AssertionError


class PostgresServer:
    """A running server on a Unix socket that makes a fresh database for each test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made = 0

    def url(self, name: str) -> str:
        return f"postgresql://tokenworks@/{name}?host={self.folder}"

    def fresh(self) -> str:
        self._made += 1
        name = f"test{self._made}"
        self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    def run(self, statement: str) -> list[Any]:
        import psycopg

        with psycopg.connect(
            host=str(self.folder), user="tokenworks", dbname="postgres", autocommit=True
        ) as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else []


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server of its own for as long as the block runs; skip where there is none."""
    try:
        import psycopg
    except ImportError:
        lacking("psycopg is not installed")
        raise
    bin_folder, account = programs(), server_account()
    # Not in pytest's folder, which another account could not enter.
    folder = Path(tempfile.mkdtemp(prefix="tokenworks-postgres-"))
    try:
        if account:
            os.chown(folder, account["user"], account["group"])
        data = folder / "data"
        quiet = {"stdout": subprocess.DEVNULL, "cwd": folder, **account}
        init = [bin_folder / "initdb", "-D", data, "-U", "tokenworks", "-A", "trust"]
        subprocess.run([*init, "-E", "UTF8", "--locale=C", "--no-sync"], check=True, **quiet)
        settings = ("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50")
        command = [bin_folder / "postgres", "-D", data, "-k", folder, *settings]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, stderr=log, **quiet)
        try:
            found = PostgresServer(folder)
            deadline = time.monotonic() + STARTED_WITHIN_S
            while True:
                try:
                    found.run("SELECT 1")
                    break
                except psycopg.OperationalError:
                    if server.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError((folder / "log").read_text()) from None
                    time.sleep(0.05)
            yield found
        finally:
            server.send_signal(2)  # fast shutdown: sessions are ended, data are kept whole
            server.wait(30)
    finally:
        shutil.rmtree(folder)

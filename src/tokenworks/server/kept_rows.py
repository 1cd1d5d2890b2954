"""Kept responses as rows of the installation's database, bounded in size and age."""

import time
from collections.abc import Callable

from tokenworks.accounts.books import Books
from tokenworks.gateway.labels import label_of
from tokenworks.server.kept import Kept, MemoryStore, Owner, ResponseStore
from tokenworks.server.settings import ServerSettings
from tokenworks.store.database import Database
from tokenworks.store.transaction import Transaction


def response_store(settings: ServerSettings, books: Books | None) -> ResponseStore:
    """In the books' database; without books in memory, until the process ends."""
    most = settings.responses_mb << 20
    if books is None:
        return MemoryStore(most)
    age_s = settings.responses_days * 86_400.0
    return DatabaseStore(books.database, most_bytes=most, most_age_s=age_s)


class DatabaseStore:
    """Whatever `put` has returned for outlives this process. Raises StoreError.

    All tenants together have `most_bytes`; where that is too little, the one that takes most loses
    its oldest. What is older than `most_age_s` is as good as gone at once, and soon deleted.
    """

    def __init__(
        self,
        database: Database,
        *,
        most_bytes: int,
        most_age_s: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._most, self._age_s, self._wall = most_bytes, most_age_s, wall

    async def get(self, owner: Owner, identity: str) -> Kept | None:
        """None also for another owner's."""
        first = self._first()

        def query(transaction: Transaction) -> Kept | None:
            row = transaction.row(
                "SELECT label, response, items FROM responses "
                "WHERE id = ? AND tenant = ? AND holder = ? AND at >= ?",
                *(identity, *owner, first),
            )
            return None if row is None else _kept(owner, identity, *row)

        return None if "\0" in identity else await self._database.read(query)

    async def put(self, kept: Kept) -> bool:
        if kept.size > self._most:
            return False
        at = self._wall()

        def work(transaction: Transaction) -> tuple[bool, bool]:
            transaction.run(
                "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                *(kept.identity, at, *kept.owner, kept.label.word, kept.size),
                *(kept.response.decode(), kept.items.decode()),
            )
            _add_size(transaction, kept.owner.tenant, kept.size)
            gone = _make_room(transaction, self._most)
            left = transaction.row("SELECT 1 FROM responses WHERE id = ?", kept.identity)
            return gone, left is not None

        gone, is_kept = await self._database.write(work)
        if gone:
            self._database.scrub()
        return is_kept

    async def delete(self, owner: Owner, identity: str) -> bool:
        def work(transaction: Transaction) -> bool:
            row = transaction.row(
                "SELECT size FROM responses WHERE id = ? AND tenant = ? AND holder = ?",
                *(identity, *owner),
            )
            if row is not None:
                _delete(transaction, owner.tenant, identity, row[0])
            return row is not None

        found = "\0" not in identity and await self._database.write(work)
        if found:
            self._database.scrub()
        return found

    async def prune(self) -> None:
        first = self._first()

        def work(transaction: Transaction) -> int:
            old = "SELECT tenant, sum(size) FROM responses WHERE at < ? GROUP BY tenant"
            for tenant, size in transaction.rows(old, first):
                _add_size(transaction, tenant, -int(size))
            return transaction.run("DELETE FROM responses WHERE at < ?", first)

        if await self._database.read(lambda transaction: _any_before(transaction, first)):
            await self._database.write(work)
            self._database.scrub()

    def _first(self) -> float:
        return self._wall() - self._age_s


def _make_room(transaction: Transaction, most: int) -> bool:
    """Whether anything had to go."""
    gone = False
    while True:
        (total,) = transaction.row("SELECT sum(size) FROM response_sizes") or (0,)
        if int(total or 0) <= most:
            return gone
        (tenant,) = transaction.rows(
            "SELECT tenant FROM response_sizes ORDER BY size DESC, tenant LIMIT 1"
        )[0]
        sql = "SELECT id, size FROM responses WHERE tenant = ? ORDER BY at, id LIMIT 1"
        identity, size = transaction.rows(sql, tenant)[0]
        _delete(transaction, tenant, identity, size)
        gone = True


def _delete(transaction: Transaction, tenant: str, identity: str, size: int) -> None:
    transaction.run("DELETE FROM responses WHERE id = ?", identity)
    _add_size(transaction, tenant, -size)


def _add_size(transaction: Transaction, tenant: str, size: int) -> None:
    transaction.run(
        "INSERT INTO response_sizes VALUES (?, ?) ON CONFLICT (tenant) "
        "DO UPDATE SET size = response_sizes.size + excluded.size",
        *(tenant, size),
    )
    if size < 0:
        transaction.run("DELETE FROM response_sizes WHERE tenant = ? AND size <= 0", tenant)


def _any_before(transaction: Transaction, first: float) -> bool:
    return transaction.row("SELECT 1 FROM responses WHERE at < ? LIMIT 1", first) is not None


def _kept(owner: Owner, identity: str, label: str, response: str, items: str) -> Kept:
    return Kept(
        identity=identity,
        owner=owner,
        label=label_of(label),
        response=response.encode(),
        items=items.encode(),
    )

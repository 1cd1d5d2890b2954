"""Installations for tests of backups: folders with keys, books and policies, and what they show."""

import asyncio
from pathlib import Path
from typing import Any

from tokenworks.accounts.books import Books, opened
from tokenworks.accounts.holders import Caller
from tokenworks.accounts.keys import NewKey
from tokenworks.accounts.ledger import Settlement
from tokenworks.accounts.reservations import Request
from tokenworks.accounts.spending import Amounts
from tokenworks.accounts.usage import bill
from tokenworks.store import audit
from tokenworks.store.backup import Place, take
from tokenworks.store.backup_restore import Restored, finish, restore

AT = 1_795_000_000.0


def place_at(folder: Path, url: str = "", policies: bool = True) -> Place:
    folder.mkdir(exist_ok=True)
    return Place(
        database=url or f"sqlite:///{folder / 'tokenworks.db'}",
        secret=folder / "secret",
        policies=folder / "policies.toml" if policies else None,
        folder=folder,
    )


def books_of(place: Place) -> Any:
    finish(place)
    return opened(place.database, place.secret)


async def spend(books: Books, number: int, money: int = 100) -> None:
    caller = Caller("acme", "ada", "")
    request = Request(request_id=f"r-{number}", caller=caller, model="m", backend="far")
    await books.budgets.reserve(request, Amounts(money=money, tokens=10))
    settlement = Settlement(
        request_id=f"r-{number}",
        status="answered",
        costs=(("far", money),),
        backend="far",
        tier="cloud",
        label="internal",
        model="m",
        prompt_tokens=4,
        completion_tokens=6,
    )
    await books.budgets.settle(settlement)


def filled(place: Place, requests: int = 20) -> str:
    """A key's text; whoever has the place has it, and a bill."""
    assert place.policies is not None
    place.policies.write_text('[labels]\ndefault = "internal"\n')

    async def main(books: Books) -> str:
        for number in range(requests):
            await spend(books, number)
        return (await books.keys.create(NewKey(tenant="acme"), actor="test")).text

    with books_of(place) as books:
        return asyncio.run(main(books))


def seen(place: Place, key: str) -> tuple[str, Any, Any]:
    """Whose the key is, the bill, and whether the audit log is whole."""
    with books_of(place) as books:
        found = books.keys.find(key).tenant
        read = books.database.read_now
        months = [read(lambda t, month=month: bill(t, "acme", month)) for month in months_of(books)]
        return found, months, read(audit.verify)


def months_of(books: Books) -> list[str]:
    rows = books.database.read_now(lambda t: t.rows("SELECT DISTINCT day FROM requests"))
    return sorted({day[:7] for (day,) in rows})


def backed_up(place: Place, path: Path) -> Path:
    take(place, path, program="0.1.0", at=AT)
    return path


def restored(place: Place, path: Path, **more: Any) -> Restored:
    return restore(place, path, program="0.1.0", at=AT + 60, **more)

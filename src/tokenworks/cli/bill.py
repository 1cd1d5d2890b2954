"""`tokenworks bill`: what a month has cost, by whom and where."""

import asyncio
from datetime import UTC, datetime
from functools import partial

import msgspec
from rich.table import Table

from tokenworks.accounts.money import show_money
from tokenworks.accounts.usage import Bill, UsageRow, bill, usage
from tokenworks.cli.books import opened
from tokenworks.cli.console import aside, data
from tokenworks.config import Config
from tokenworks.store.transaction import Transaction


def show(config: Config, tenant: str | None, month: str | None, *, json: bool) -> None:
    """A tenant's bill for a month, line by line; without a tenant, those of all."""
    month = month or f"{datetime.now(UTC):%Y-%m}"
    with opened(config) as books:
        bills = asyncio.run(books.database.read(partial(_bills, tenant=tenant, month=month)))
    if json:
        data.print(msgspec.json.encode(bills).decode())
        return
    if not any(one.lines for one in bills):
        aside.print(f"nothing was asked in {month}")
        return
    for one in bills:
        data.print(_table(one))


def _bills(transaction: Transaction, tenant: str | None, month: str) -> list[Bill]:
    if tenant is not None:
        return [bill(transaction, tenant, month)]
    tenants = [row.group["tenant"] for row in usage(transaction, by=("tenant",))]
    return [one for name in tenants if (one := bill(transaction, name, month)).lines]


def _table(one: Bill) -> Table:
    title = f"{one.tenant or 'without a key'}, {one.month}: {show_money(one.money)}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("model", "backend"):
        table.add_column(name)
    for name in ("requests", "prompt", "cached", "answer", "money"):
        table.add_column(name, justify="right")
    for line in one.lines:
        table.add_row(*_cells(line))
    return table


def _cells(line: UsageRow) -> tuple[str, ...]:
    return (
        line.group["model"],
        line.group["backend"],
        f"{line.requests:,}",
        f"{line.prompt_tokens:,}",
        f"{line.cached_tokens:,}",
        f"{line.completion_tokens:,}",
        show_money(line.money),
    )

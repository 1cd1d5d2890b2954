"""`tokenworks bill`: what a month has cost, by whom and where."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import msgspec
from rich.table import Table

from tokenworks.accounts.export import bills_csv
from tokenworks.accounts.money import show_money
from tokenworks.accounts.usage import BY_BACKEND, Bill, UsageRow, bill, usage
from tokenworks.cli.books import opened
from tokenworks.cli.console import aside, data
from tokenworks.config import Config
from tokenworks.store.transaction import Transaction

WIDEST: Final = 1000
"""Letters of a line, at most."""

COLUMNS: Final = ("requests", "prompt", "cached", "answer", "reasoning", "energy", "money")
"""Tokens of prompts, of these from a cache, of answers, of these not shown. Times are in JSON."""


def show(
    config: Config,
    tenant: str | None,
    month: str | None,
    by: Sequence[str] = BY_BACKEND,
    *,
    csv: bool,
    json: bool,
) -> None:
    """A tenant's bill for a month, line by line; without a tenant, those of all."""
    month = month or f"{datetime.now(UTC):%Y-%m}"
    query = partial(_bills, tenant=tenant, month=month, by=tuple(by))
    with opened(config) as books:
        bills = asyncio.run(books.database.read(query))
    if json or csv:
        data.print(msgspec.json.encode(bills).decode() if json else bills_csv(bills).rstrip())
        return
    if not any(one.lines for one in bills):
        aside.print(f"nothing was asked in {month}")
        return
    for one in bills:
        data.print(_table(one))


def _bills(
    transaction: Transaction, tenant: str | None, month: str, by: Sequence[str]
) -> list[Bill]:
    if tenant is not None:
        return [bill(transaction, tenant, month, by)]
    tenants = [row.group["tenant"] for row in usage(transaction, by=("tenant",))]
    return [one for name in tenants if (one := bill(transaction, name, month, by)).lines]


def _table(one: Bill) -> Table:
    title = f"{one.tenant or 'without a key'}, {one.month}: {show_money(one.money)}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in one.lines[0].group if one.lines else ():
        table.add_column(name)
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for line in one.lines:
        table.add_row(*line.group.values(), *_cells(line))
    # As wide as it is: in lines that are cut to a terminal, one could not read what is owed.
    table.width = data.measure(table, options=data.options.update(max_width=WIDEST)).maximum
    return table


def _cells(line: UsageRow) -> tuple[str, ...]:
    return (
        f"{line.requests:,}",
        f"{line.prompt_tokens:,}",
        f"{line.cached_tokens:,}",
        f"{line.completion_tokens:,}",
        f"{line.reasoning_tokens:,}",
        f"{line.energy_j:,.1f} J" if line.energy_j else "-",
        show_money(line.money),
    )

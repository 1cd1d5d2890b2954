"""`tokenworks budgets`: how much money and how many tokens a key, a user or a tenant may use."""

import asyncio

import msgspec
from rich.table import Table

from tokenworks.accounts.budget_rows import Budget
from tokenworks.accounts.money import parse_money, show_money
from tokenworks.accounts.spending import BudgetState
from tokenworks.cli.books import opened
from tokenworks.cli.console import aside, data
from tokenworks.cli.keys import actor
from tokenworks.config import Config
from tokenworks.errors import RequestError


def put(config: Config, holder: str, period: str, money: str | None, tokens: int | None) -> None:
    """Set a budget, in place of the one for the same holder and period."""
    if money is None and tokens is None:
        raise RequestError(
            "A budget needs a limit", hint="give --money 20.00, --tokens 1000000, or both"
        )
    micro = None if money is None else parse_money(money, param="money")
    budget = Budget(holder=holder, period=period, money=micro, tokens=tokens)
    with opened(config) as books:
        asyncio.run(books.budgets.set(budget, actor=actor()))
    aside.print(f"the budget of {holder} for each {period} holds from now on")


def remove(config: Config, holder: str, period: str) -> None:
    with opened(config) as books:
        if not asyncio.run(books.budgets.remove(holder, period, actor=actor())):
            raise RequestError(
                f"There is no budget of {holder!r} for each {period}",
                hint="tokenworks budgets list",
            )
    aside.print(f"{holder} has no budget for each {period} any more")


def show(config: Config, *, json: bool) -> None:
    """All budgets, with what was used of them in the period that runs."""
    with opened(config) as books:
        states = asyncio.run(books.budgets.all())
    if json:
        data.print(msgspec.json.encode(states).decode())
        return
    if not states:
        aside.print("no budgets yet: tokenworks budgets set tenant:NAME --money 20.00")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("holder", "period", "money", "spent", "reserved", "tokens", "used"):
        table.add_column(title, justify="left" if title in ("holder", "period") else "right")
    for state in states:
        table.add_row(*_cells(state))
    data.print(table)


def _cells(state: BudgetState) -> tuple[str, ...]:
    return (
        state.holder,
        state.period,
        "-" if state.money is None else show_money(state.money),
        show_money(state.spent),
        show_money(state.reserved),
        "-" if state.tokens is None else f"{state.tokens:,}",
        f"{state.spent_tokens + state.reserved_tokens:,}",
    )

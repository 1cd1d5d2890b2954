"""`tokenworks limits`: how many requests and tokens a minute a key, a user or a tenant may use."""

import asyncio

import msgspec
from rich.table import Table

from tokenworks.accounts.limits import Allowance
from tokenworks.cli.books import opened
from tokenworks.cli.console import aside, data
from tokenworks.cli.keys import actor
from tokenworks.config import Config
from tokenworks.errors import RequestError


def put(config: Config, holder: str, allowance: Allowance) -> None:
    """Set a holder's limits, in place of those it has."""
    if allowance == Allowance():
        raise RequestError(
            "There is nothing to limit",
            hint="give --requests-per-minute 60, --tokens-per-minute 100000, or both",
        )
    with opened(config) as books:
        asyncio.run(books.keys.set_limit(holder, allowance, actor=actor()))
    aside.print(f"{holder} is limited so from now on: running factories know within a second")


def remove(config: Config, holder: str) -> None:
    with opened(config) as books:
        if not asyncio.run(books.keys.set_limit(holder, Allowance(), actor=actor())):
            raise RequestError(f"{holder!r} has no limits", hint="tokenworks limits list")
    aside.print(f"{holder} has no limits any more")


def show(config: Config, *, json: bool) -> None:
    """All limits of keys, users and tenants."""
    with opened(config) as books:
        limits = asyncio.run(books.keys.limits())
    if json:
        listed = [
            {"holder": holder, **msgspec.to_builtins(allowance)}
            for holder, allowance in limits.items()
        ]
        data.print(msgspec.json.encode(listed).decode())
        return
    if not limits:
        aside.print("no limits yet: tokenworks limits set tenant:NAME --requests-per-minute 60")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("holder", "requests/min", "tokens/min"):
        table.add_column(title, justify="left" if title == "holder" else "right")
    for holder, one in limits.items():
        numbers = (one.requests_per_minute, one.tokens_per_minute)
        table.add_row(holder, *("-" if number is None else f"{number:,}" for number in numbers))
    data.print(table)

"""Budgets as rows of the database."""

import msgspec

from tokenworks.store.transaction import Transaction


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a holder may use in each `period`: money in micro-units, tokens; None: no limit."""

    holder: str
    period: str
    money: int | None = None
    tokens: int | None = None


def put(transaction: Transaction, budget: Budget) -> None:
    """Set it, in place of the one that the holder has for this period."""
    transaction.run(
        "INSERT INTO budgets VALUES (?, ?, ?, ?) ON CONFLICT (holder, period) "
        "DO UPDATE SET money = excluded.money, tokens = excluded.tokens",
        *(budget.holder, budget.period, budget.money, budget.tokens),
    )


def remove(transaction: Transaction, holder: str, period: str) -> bool:
    """Whether there was one."""
    sql = "DELETE FROM budgets WHERE holder = ? AND period = ?"
    return transaction.run(sql, holder, period) > 0


def holders(transaction: Transaction) -> list[str]:
    """All who have a budget."""
    return [row[0] for row in transaction.rows("SELECT DISTINCT holder FROM budgets ORDER BY 1")]

"""Numbered steps from an empty database to today's schema; they only ever go forward.

A step that has been released is never changed: another one follows it. Knows nothing of what the
tables mean to those who use them.
"""

from string import Template
from typing import Final

from tokenworks.errors import ConfigError
from tokenworks.store.migrations import s0001_accounts, s0002_responses
from tokenworks.store.transaction import Transaction

Step = tuple[str, ...]
"""Statements. `$clustered` ends a table that is looked up by its primary key alone."""

STEPS: Final[tuple[Step, ...]] = (s0001_accounts.STATEMENTS, s0002_responses.STATEMENTS)

_CLUSTERED = {"sqlite": "WITHOUT ROWID", "postgresql": ""}


def migrate(transaction: Transaction, steps: tuple[Step, ...], at: float) -> None:
    """Run the steps that this database has not seen, in the transaction that is open.

    Raises ConfigError if it has seen more than there are.
    """
    transaction.run(
        "CREATE TABLE IF NOT EXISTS schema_steps "
        "(step BIGINT PRIMARY KEY, applied_at DOUBLE PRECISION NOT NULL)"
    )
    found = transaction.row("SELECT max(step) FROM schema_steps")
    seen: int = (found and found[0]) or 0
    if seen > len(steps):
        raise ConfigError(
            f"The database is of a newer Tokenworks: its schema is at step {seen}, "
            f"and this program knows {len(steps)}",
            hint="update this program, or restore a backup from before: tokenworks restore FILE",
        )
    words = {"clustered": _CLUSTERED[transaction.dialect]}
    for number, step in enumerate(steps[seen:], seen + 1):
        for statement in step:
            transaction.run(Template(statement).substitute(words))
        transaction.run("INSERT INTO schema_steps VALUES (?, ?)", number, at)

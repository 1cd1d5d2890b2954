"""Where the books of this installation are."""

from contextlib import AbstractContextManager
from pathlib import Path

from tokenworks.accounts import books
from tokenworks.accounts.books import Books
from tokenworks.config import Config
from tokenworks.store.backup import Place
from tokenworks.store.backup_restore import finish


def opened(config: Config) -> AbstractContextManager[Books]:
    """Keys, budgets and the ledger. Raises ConfigError or StoreError."""
    place = settled(config)
    return books.opened(place.database, place.secret)


def settled(config: Config) -> Place:
    """As `place_of`; a restore that was killed is finished or undone first."""
    place = place_of(config)
    finish(place)
    return place


def place_of(config: Config) -> Place:
    """Where all of this installation's state is that a backup holds."""
    policies = config.gateway.policies
    return Place(
        database=config.gateway.database or f"sqlite:///{config.home.database}",
        secret=config.home.secret,
        policies=Path(policies).expanduser() if policies else None,
        folder=config.home.secret.parent,
    )

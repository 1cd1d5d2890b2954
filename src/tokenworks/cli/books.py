"""Where the books of this installation are."""

from contextlib import AbstractContextManager

from tokenworks.accounts import books
from tokenworks.accounts.books import Books
from tokenworks.config import Config


def opened(config: Config) -> AbstractContextManager[Books]:
    """Keys, budgets and the ledger. Raises ConfigError or StoreError."""
    url = config.gateway.database or f"sqlite:///{config.home.database}"
    return books.opened(url, config.home.secret)

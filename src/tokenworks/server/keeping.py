"""What the books need while the server runs: news of other processes, and what they left behind."""

import asyncio
import logging
from typing import Final

from tokenworks.accounts.books import Books
from tokenworks.errors import TokenworksError
from tokenworks.server.kept import ResponseStore

logger = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 0.5
"""How soon a key that another process made or revoked is known here."""

RECOVER_EVERY: Final = 60
"""Refreshes between two looks for requests that were lost with their gateway, and for what is too
old to be kept."""


async def keep(books: Books, responses: ResponseStore) -> None:
    """Run until cancelled. A database that does not answer is tried again."""
    count = 0
    while True:
        try:
            await books.keys.refresh()
            if count % RECOVER_EVERY == 0:
                await books.budgets.recover()
                await responses.prune()
        except TokenworksError as error:
            logger.error("the books cannot be read: %s", error.message)
        count += 1
        await asyncio.sleep(REFRESH_SECONDS)

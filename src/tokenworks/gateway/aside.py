"""Work that takes long, beside the event loop: streams of others go on meanwhile."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

LARGE: Final = 16 * 1024
"""Characters to look through that take some milliseconds: less is done at once, where it is."""

AT_ONCE: Final = 2
"""Threads that work: with each further one, the event loop waits longer for its turn."""


class Aside:
    """Runs what is large in a thread, and what is small right here."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """The result of `work`, which has `size` characters to look through. Raises what it does.

        Whoever is cancelled meanwhile does not wait for it; it ends by itself.
        """
        if size < LARGE:
            return work()
        async with self._turn:
            return await asyncio.to_thread(work)

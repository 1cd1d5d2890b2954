"""What is small is done at once; what is large in a thread, a few at a time."""

import asyncio
import threading
import time

import pytest

from tokenworks.gateway.aside import AT_ONCE, LARGE, Aside


def test_only_what_is_large_leaves_the_event_loop_s_thread() -> None:
    async def main() -> None:
        aside = Aside()
        assert await aside.run(LARGE - 1, threading.get_ident) == threading.get_ident()
        assert await aside.run(LARGE, threading.get_ident) != threading.get_ident()

    asyncio.run(main())


def test_few_work_at_once() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    async def main() -> None:
        aside = Aside()
        await asyncio.gather(*(aside.run(LARGE, work) for _ in range(3 * AT_ONCE)))

    asyncio.run(main())
    assert most == AT_ONCE


@pytest.mark.parametrize("size", [0, LARGE])
def test_what_goes_wrong_there_is_raised_here(size: int) -> None:
    def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(Aside().run(size, work))

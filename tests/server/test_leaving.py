"""Work that ends when its client leaves."""

import asyncio

import pytest
from starlette.types import Message

from tokenworks.server.guard import ClientGone
from tokenworks.server.stream import unless_client_leaves


class Client:
    """Says nothing until it leaves."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}


def test_work_is_done_and_its_result_returned_while_the_client_stays() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    async def body() -> None:
        assert await unless_client_leaves(Client().receive, work()) == 7

    asyncio.run(body())


def test_work_is_cancelled_and_has_cleaned_up_when_the_client_leaves() -> None:
    cleaned = []

    async def body() -> None:
        client = Client()

        async def work() -> None:
            client.left.set()
            try:
                await asyncio.sleep(30)
            finally:
                await asyncio.sleep(0)
                cleaned.append(True)

        with pytest.raises(ClientGone):
            await unless_client_leaves(client.receive, work())
        assert cleaned
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)  # nothing is left that would cancel what comes next

    asyncio.run(body())


@pytest.mark.parametrize("client_first", [True, False])
def test_a_client_that_leaves_as_the_work_ends_cancels_nothing_that_comes_after(
    client_first: bool,
) -> None:
    async def body() -> str:
        client, done = Client(), asyncio.get_running_loop().create_future()

        async def work() -> str:
            await done
            return "whole"

        async def reply() -> str:
            try:
                text = await unless_client_leaves(client.receive, work())
            except ClientGone:
                text = "gone"
            await asyncio.sleep(0)
            return text

        running = asyncio.create_task(reply())
        for _ in range(3):
            await asyncio.sleep(0)
        happens = [client.left.set, lambda: done.set_result(None)]
        for happen in happens if client_first else reversed(happens):
            happen()  # both wake somebody in the loop's next round
        return await running

    assert asyncio.run(body()) in ("whole", "gone")


def test_another_cancellation_stays_one() -> None:
    async def body() -> None:
        async def work() -> None:
            await asyncio.sleep(30)

        running = asyncio.create_task(unless_client_leaves(Client().receive, work()))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(body())

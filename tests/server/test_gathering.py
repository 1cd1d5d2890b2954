"""Writes that leave together: nothing is lost, and nothing waits."""

import asyncio
from typing import cast

import pytest

from tokenworks.server.gathering import Gathering


class Transport:
    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.gone = self.closed = False

    def write(self, data: bytes) -> None:
        if self.gone:
            raise RuntimeError("unable to perform operation; the handler is closed")
        self.seen.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def test_writes_of_one_round_leave_as_one_and_those_of_the_next_by_themselves() -> None:
    async def body() -> None:
        under = Transport()
        transport = Gathering(cast(asyncio.Transport, under), asyncio.get_running_loop())
        transport.write(b"head ")
        transport.write(b"first")
        assert under.seen == []
        await asyncio.sleep(0)
        assert under.seen == [b"head first"]
        transport.write(b"second")
        await asyncio.sleep(0)
        assert under.seen == [b"head first", b"second"]

    asyncio.run(body())


def test_what_was_written_before_the_close_is_sent_before_it() -> None:
    async def body() -> None:
        under = Transport()
        transport = Gathering(cast(asyncio.Transport, under), asyncio.get_running_loop())
        transport.write(b"last words")
        transport.close()
        assert under.seen == [b"last words"]
        assert under.closed
        await asyncio.sleep(0)
        assert under.seen == [b"last words"]

    asyncio.run(body())


def test_a_client_that_has_gone_is_no_error_of_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        under = Transport()
        transport = Gathering(cast(asyncio.Transport, under), asyncio.get_running_loop())
        transport.write(b"for nobody")
        under.gone = True
        await asyncio.sleep(0)
        assert under.seen == []

    asyncio.run(body())
    assert not caplog.records  # the loop logs what a callback raises


def test_the_rest_of_the_transport_is_as_it_was() -> None:
    async def body() -> None:
        under = Transport()
        transport = Gathering(cast(asyncio.Transport, under), asyncio.get_running_loop())
        assert not transport.is_closing()
        under.closed = True
        assert transport.is_closing()

    asyncio.run(body())

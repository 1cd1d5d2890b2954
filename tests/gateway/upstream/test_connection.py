"""One connection after another, byte by byte."""

import asyncio

import pytest

from scripted_sockets import GET, OK, ask, client_of, run, saying, server
from tokenworks.gateway.upstream.connection import WireError


async def answer_to(reply: bytes, *, then_close: bool = False) -> tuple[int, bytes]:
    async with server(saying(reply, then_close=then_close)) as url, client_of(url) as client:
        return await ask(client)


def test_a_connection_is_kept_and_used_again() -> None:
    async def main() -> None:
        seen = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(writer)
            await saying(OK, OK, OK)(reader, writer)

        async with server(handler) as url, client_of(url) as client:
            for _ in range(3):
                assert await ask(client) == (200, b"ok")
            assert client.connections == 1
        assert len(seen) == 1

    run(main())


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_reply_is_the_same_wherever_it_is_cut(size: int) -> None:
    reply = (
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3;ext=1\r\nabc\r\na\r\n0123456789\r\n0\r\ntrailer: x\r\n\r\n"
    )

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            for start in range(0, len(reply), size):
                writer.write(reply[start : start + size])
                await writer.drain()
                await asyncio.sleep(0)
        await reader.read()

    async def main() -> None:
        async with server(handler) as url, client_of(url) as client:
            assert await ask(client) == (200, b"abc0123456789")
            assert await ask(client) == (200, b"abc0123456789")
            assert client.connections == 1

    run(main())


def test_a_reply_without_a_length_ends_with_its_connection() -> None:
    async def main() -> None:
        reply = b"HTTP/1.1 200 OK\r\n\r\nsome text"
        assert await answer_to(reply, then_close=True) == (200, b"some text")
        cut = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nsome text"
        with pytest.raises(WireError, match="broke"):
            await answer_to(cut, then_close=True)
        unended = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
        with pytest.raises(WireError, match="broke"):
            await answer_to(unended, then_close=True)

    run(main())


@pytest.mark.parametrize(
    "reply",
    [
        b"\x00\x01\x02garbage" * 10,
        b"HTTP/1.1 999999 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokk",
        b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200_000,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"a%d: b\r\n" % n for n in range(200)) + b"\r\n",
    ],
)
def test_what_is_not_one_sane_http_reply_is_an_error(reply: bytes) -> None:
    with pytest.raises(WireError):
        run(answer_to(reply))


def test_a_second_reply_is_never_taken_for_the_next_request_s() -> None:
    async def main() -> None:
        poison = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
        for reply in (OK + poison, OK + poison[:10], OK + b"\r\nx"):
            async with server(saying(reply, OK)) as url, client_of(url) as client:
                assert await ask(client) == (200, b"ok")
                assert client.connections == 0
                assert await ask(client) == (200, b"ok")

    run(main())


def test_what_nobody_read_of_a_reply_is_never_part_of_the_next() -> None:
    async def main() -> None:
        async with server(saying(OK, OK)) as url, client_of(url) as client:
            by = asyncio.get_running_loop().time() + 5
            unread = await client.request(GET, by=by)
            while not unread.complete:
                await asyncio.sleep(0.001)
            client.give_back(unread)
            assert client.connections == 0
            assert await ask(client) == (200, b"ok")

    run(main())


def test_what_comes_unasked_on_an_idle_connection_closes_it() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            await go.wait()
            writer.write(b"HTTP/1.1 408 Timeout\r\ncontent-length: 0\r\n\r\n")
            await reader.read()

        async with server(handler) as url, client_of(url) as client:
            assert await ask(client) == (200, b"ok")
            assert client.connections == 1
            go.set()
            while client.connections:
                await asyncio.sleep(0.001)
            assert await ask(client) == (200, b"ok")

    run(main())


def test_a_kept_connection_that_the_server_closed_costs_no_request() -> None:
    async def main() -> None:
        requests = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            first = True
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                requests.append(head)
                if not first:
                    return  # it had decided to close before this request came
                writer.write(OK)
                first = False

        async with server(handler) as url, client_of(url) as client:
            for _ in range(3):
                assert await ask(client) == (200, b"ok")
        assert len(requests) == 5  # the second and the third were sent twice

    run(main())


def test_a_request_whose_reply_began_is_never_sent_again() -> None:
    async def main() -> None:
        requests = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                requests.append(await reader.readuntil(b"\r\n\r\n"))
                if len(requests) > 1:
                    writer.write(b"HTTP/1.1 2")
                    return
                writer.write(OK)

        async with server(handler) as url, client_of(url) as client:
            assert await ask(client) == (200, b"ok")
            with pytest.raises(WireError):
                await ask(client)
        assert len(requests) == 2

    run(main())


def test_waiting_ends_at_its_time_and_closes_the_connection() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with server(silent) as url, client_of(url) as client:
            begun = loop.time()
            with pytest.raises(WireError, match="nothing in time"):
                await client.request(GET, by=begun + 0.1)
            assert 0.09 < loop.time() - begun < 2
            assert client.connections == 0

    run(main())


def test_an_earlier_time_than_the_wait_before_had_is_kept() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsome")
        await reader.read()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with server(half) as url, client_of(url) as client:
            connection = await client.request(GET, by=loop.time() + 60)
            begun = loop.time()
            assert await connection.read(begun + 60) == b"some"
            with pytest.raises(WireError, match="nothing in time"):
                await connection.read(begun + 0.1)
            assert loop.time() - begun < 2
            client.give_back(connection)

    run(main())


def test_a_slow_reader_makes_the_server_wait_instead_of_memory_grow() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async def main() -> None:
        by = asyncio.get_running_loop().time() + 30
        async with server(flood) as url, client_of(url) as client:
            connection = await client.request(GET, by=by)
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.2)
            first = len(await connection.read(by))
            received = first
            while received < 2 * before:  # and goes on once somebody reads
                received += len(await connection.read(by))
            assert first < 2**20
            client.give_back(connection)

    run(main())


def test_closing_the_client_ends_who_waits() -> None:
    async def main() -> None:
        async with server(saying()) as url, client_of(url) as client:
            waiting = asyncio.create_task(ask(client))
            while not client.connections:
                await asyncio.sleep(0.001)
            client.close()
            with pytest.raises(WireError, match="from this side"):
                await waiting
            with pytest.raises(WireError, match="closed"):
                await ask(client)

    run(main())


def test_cancelling_a_request_closes_its_connection_at_once() -> None:
    async def main() -> None:
        left = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await reader.read()
            left.set()

        async with server(handler) as url, client_of(url) as client:
            waiting = asyncio.create_task(ask(client))
            while not client.connections:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.wait_for(left.wait(), 5)
            assert client.connections == 0

    run(main())

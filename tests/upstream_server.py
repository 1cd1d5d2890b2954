"""An upstream on a free port that speaks OpenAI's and Anthropic's APIs, with faults on demand.

    with upstream_server() as server:
        server.script = Script(fault="reset", at=3)
        ... server.url, server.asked, server.left_early ...

Also a program, for benchmarks: python tests/upstream_server.py --script '{"pieces": ["a"]}'
prints its address; POST /script changes the script.
"""

import argparse
import asyncio
import contextlib
import json
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from upstream_exchange import Asked, ClientLeft, Exchange, Reader
from upstream_replies import Script


@dataclass
class UpstreamServer:
    """`scripts` are for the next requests, one each; then `choose` or `script` says what to do."""

    script: Script = field(default_factory=Script)
    scripts: deque[Script] = field(default_factory=deque)
    choose: Callable[[Asked], Script] | None = None
    key: str = ""  # what clients must send
    tls: ssl.SSLContext | None = None
    address: str = ""
    asked: list[Asked] = field(default_factory=list)
    remember: bool = True
    connections: int = 0  # so far
    open_connections: int = 0
    answered: int = 0  # to their ends
    left_early: int = 0  # answers whose client went away before their end

    @property
    def url(self) -> str:
        """As OpenAI's client takes it; Anthropic's takes `address`."""
        return f"{self.address}/v1"

    async def serve(self, host: str, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(Reader(1 << 24), self._connected, loop=loop)

        server = await loop.create_server(protocol, host, port, ssl=self.tls)
        number = server.sockets[0].getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        self.address = f"{'https' if self.tls else 'http'}://{name}:{number}"
        return server

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, Reader)
        self.connections += 1
        self.open_connections += 1
        exchange = Exchange(self, reader, writer, self.connections)
        try:
            while await exchange.answer_one():
                pass
        except (ClientLeft, ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self.open_connections -= 1
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    def script_for(self, asked: Asked) -> Script:
        if self.scripts:
            return self.scripts.popleft()
        return self.choose(asked) if self.choose else self.script


@contextmanager
def upstream_server(
    *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, **changes: Any
) -> Iterator[UpstreamServer]:
    """A server in a thread of its own, which ends with the block."""
    server = UpstreamServer(tls=tls, **changes)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="upstream server")
    thread.start()
    try:
        listening = asyncio.run_coroutine_threadsafe(server.serve(host, 0), loop).result(10)
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(_end(listening), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(listening: asyncio.Server) -> None:
    listening.close()
    own = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not own]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)  # transports close in the loop's next round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", default="{}")
    given = parser.parse_args()

    async def run() -> None:
        server = UpstreamServer(script=Script.of(json.loads(given.script)), remember=False)
        async with await server.serve(given.host, given.port) as listening:
            print(server.address, flush=True)  # noqa: T201  (whoever started this reads it)
            await listening.serve_forever()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


if __name__ == "__main__":
    main()

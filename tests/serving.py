"""A real server for tests: uvicorn on a free port, in a thread of this process."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager

import uvloop

from tokenworks.accounts.books import Books
from tokenworks.accounts.limits import Limits
from tokenworks.gateway.backend import Backend
from tokenworks.gateway.books import KeptBooks
from tokenworks.gateway.gateway import Gateway
from tokenworks.gateway.policies import PolicyFile
from tokenworks.server.run import Stop, serve
from tokenworks.server.settings import ServerSettings
from tokenworks.telemetry.clock import MonotonicClock
from tokenworks.telemetry.facts import Traces
from tokenworks.telemetry.metrics import Metrics


class Serving:
    """A running server: where it is, and how to stop it as a signal would."""

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop, stop: Stop) -> None:
        self.url = url
        self._loop = loop
        self._stop = stop

    def ask_to_stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.ask)


@contextmanager
def serving(
    *backends: Backend,
    settings: ServerSettings | None = None,
    policies: PolicyFile | None = None,
    books: Books | None = None,
    environment: Mapping[str, str] | None = None,
    traces: Traces | None = None,
) -> Iterator[Serving]:
    """Serve the backends; at the end drain, stop, and raise whatever went wrong inside."""
    ready: Future[Serving] = Future()
    chosen = settings or ServerSettings(port=0, drain_seconds=0.0)

    async def main() -> None:
        stop, metrics, loop = Stop(), Metrics(), asyncio.get_running_loop()
        gateway = Gateway(
            backends,
            metrics,
            MonotonicClock(),
            policies=policies,
            books=books and KeptBooks(books.keys, books.budgets, Limits(MonotonicClock())),
            environment=environment,
            traces=traces,
        )
        await serve(
            gateway,
            chosen,
            metrics,
            stop=stop,
            books=books,
            on_ready=lambda url: ready.set_result(Serving(url, loop, stop)),
        )

    outcome: Future[None] = Future()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
            outcome.set_result(None)
        except BaseException as error:
            outcome.set_exception(error)
            if not ready.done():
                ready.set_exception(error)

    thread = threading.Thread(target=run, name="server")
    thread.start()
    try:
        server = ready.result(timeout=60)
        yield server
        server.ask_to_stop()
        outcome.result(timeout=60)
    finally:
        if ready.done() and not ready.exception() and thread.is_alive():
            ready.result().ask_to_stop()
        thread.join(timeout=60)

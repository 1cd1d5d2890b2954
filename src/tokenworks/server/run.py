"""Runs the server from the first signal of life to the last: bind, start, serve, drain, stop."""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI

from tokenworks.accounts.books import Books
from tokenworks.errors import ConfigError
from tokenworks.gateway.gateway import Gateway
from tokenworks.server.app import create_app
from tokenworks.server.keeping import keep
from tokenworks.server.kept_rows import response_store
from tokenworks.server.protocol import BoundedHead
from tokenworks.server.settings import ServerSettings, url_of
from tokenworks.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_LAST_WRITES_SECONDS = 2


class Stop:
    """Asked once, the server drains; asked twice, it stops at once. To be used on its loop."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.now = asyncio.Event()

    def ask(self) -> None:
        (self.now if self.drain.is_set() else self.drain).set()


def run(
    gateway: Gateway,
    settings: ServerSettings,
    metrics: Metrics,
    *,
    books: Books | None = None,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until SIGINT or SIGTERM; call `on_ready` with the address once requests are answered.

    Raises ConfigError if the port cannot be had and EngineError if a backend cannot start. Prints
    nothing.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(gateway, settings, metrics, books, on_ready))


async def _run(
    gateway: Gateway,
    settings: ServerSettings,
    metrics: Metrics,
    books: Books | None,
    on_ready: Callable[[str], None],
) -> None:
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.ask)
    await serve(gateway, settings, metrics, stop=stop, books=books, on_ready=on_ready)


async def serve(
    gateway: Gateway,
    settings: ServerSettings,
    metrics: Metrics,
    *,
    stop: Stop,
    books: Books | None = None,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Bind, start the backends, serve until `stop` is asked, drain, end everything.

    Raises what `run` raises; the backends are closed in any case.
    """
    with bind(settings) as listener:
        responses = response_store(settings, books)
        app = create_app(gateway, settings, metrics, books=books, responses=responses)
        server = _Server(_uvicorn_config(app))
        http = asyncio.create_task(server.serve(sockets=[listener]))
        keeping = None
        if books is not None:
            keeping = asyncio.create_task(keep(books, responses), name="books")
        try:
            if await _first_of(gateway.start(), stop.drain.wait()) == 0:
                on_ready(address(listener))
                await stop.drain.wait()
            await _drain(gateway, settings, stop)
        finally:
            await gateway.close()
            if keeping is not None:
                keeping.cancel()
                await asyncio.wait({keeping})
            server.should_exit = True
            server.force_exit = stop.now.is_set()
            await http


async def _drain(gateway: Gateway, settings: ServerSettings, stop: Stop) -> None:
    if gateway.running:
        logger.info(
            "stopping: %d running requests have %g s to end (Ctrl-C again ends them now)",
            gateway.running,
            settings.drain_seconds,
        )
    await _first_of(gateway.drain(settings.drain_seconds), stop.now.wait())


async def _first_of(*works: Coroutine[Any, Any, object]) -> int:
    """Run all until one is done; return its index or raise what it raised; cancel the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = next(index for index, task in enumerate(tasks) if task.done())
        tasks[first].result()
        return first
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def bind(settings: ServerSettings) -> socket.socket:
    """A listening socket, so that the port is known before anything else starts.

    Raises ConfigError if the address does not exist here or the port is taken or not allowed.
    """
    host, port = settings.host.strip("[]"), settings.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(1024)
        except OSError:
            listener.close()
            raise
    except UnicodeError:
        raise ConfigError(f"host {host[:80]!r} is no name that a machine can have") from None
    except OSError as error:
        raise _cannot_listen(settings, error) from None
    return listener


def _cannot_listen(settings: ServerSettings, error: OSError) -> ConfigError:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"Port {settings.port} of {settings.host} is in use",
            hint=f"give another one, e.g. --port {settings.port % 65535 + 1}, or --port 0 for any",
        )
    if error.errno == errno.EACCES:
        return ConfigError(
            f"Port {settings.port} is not open to you", hint="give one above 1023 with --port"
        )
    return ConfigError(
        f"Cannot listen on {where}: {error.strerror or error}",
        hint="--host must be an address of this machine, e.g. 127.0.0.1",
    )


def address(listener: socket.socket) -> str:
    """Where people find the server, e.g. `http://127.0.0.1:8410`."""
    host, port = listener.getsockname()[:2]
    return url_of(host, port)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: they drain first."""
        yield


def _uvicorn_config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedHead,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_LAST_WRITES_SECONDS,
    )

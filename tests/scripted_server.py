"""A real server in a thread, with the scripted backend behind it, for tests of its clients."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tokenworks.gateway.gateway import Gateway
from tokenworks.gateway.scripted import ScriptedBackend
from tokenworks.server.run import Stop, serve
from tokenworks.server.settings import ServerSettings
from tokenworks.telemetry.clock import MonotonicClock
from tokenworks.telemetry.metrics import Metrics


class Served:
    """What the thread that serves and the test tell each other."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.url = ""
        self.ask_to_stop = lambda: None

    async def serve(self, backend: ScriptedBackend) -> None:
        stop, metrics, loop = Stop(), Metrics(), asyncio.get_running_loop()
        self.ask_to_stop = lambda: loop.call_soon_threadsafe(stop.ask) and None

        def on_ready(url: str) -> None:
            self.url = url
            self.ready.set()

        gateway = Gateway([backend], metrics, MonotonicClock())
        await serve(gateway, ServerSettings(port=0), metrics, stop=stop, on_ready=on_ready)


@contextmanager
def served(backend: ScriptedBackend) -> Iterator[str]:
    """Serve while the block runs; the address."""
    state = Served()
    thread = threading.Thread(target=lambda: asyncio.run(state.serve(backend)))
    thread.start()
    try:
        assert state.ready.wait(10)
        yield state.url
    finally:
        state.ask_to_stop()
        thread.join(20)
        assert not thread.is_alive()

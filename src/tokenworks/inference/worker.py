"""The engine's own process: `python -m tokenworks.inference.worker SOCKET_FD`, settings on stdin.

Knows nothing about who is at the other end of the socket; when that end closes, it exits.
"""

import importlib.util
import re
import selectors
import signal
import socket
import sys
from hashlib import blake2b
from pathlib import Path

import msgspec

from tokenworks import __version__
from tokenworks.errors import ConfigError, EngineError, TokenworksError
from tokenworks.fleet.discover.memory import Memory, read_memory
from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.base import ModelExecutor
from tokenworks.inference.executors.choose import open_executor
from tokenworks.inference.framing import Unframer, frame
from tokenworks.inference.memory import page_count
from tokenworks.inference.messages import (
    EXIT_CANNOT_SERVE,
    EXIT_PROTOCOL,
    FromWorker,
    Generate,
    Ready,
    ToWorker,
)
from tokenworks.inference.models.identity import identity_of
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.panel_format import FORMATS_VERSION
from tokenworks.inference.models.rounding import NO_ROUNDING
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.spill import Spill
from tokenworks.telemetry.clock import MonotonicClock

_READ_BYTES = 1 << 18
_MAX_UNSENT_BYTES = 1 << 22


class Worker:
    """One engine behind one socket, on one thread: it computes, and looks up between forwards."""

    def __init__(self, connection: socket.socket, engine: Engine) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._engine = engine
        self._unframer = Unframer(msgspec.msgpack.Decoder(ToWorker))
        self._unsent = bytearray()
        self._open = True
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection, selectors.EVENT_READ)

    def serve(self, ready: Ready) -> None:
        """Work until the other end closes. Raises EngineError for a message that makes no sense."""
        self._queue(ready)
        checked = False
        while self._open:
            if not self._engine.busy and not checked:
                self._engine.check_integrity()
            checked = not self._engine.busy
            self._exchange(wait=not self._may_step() and not self._may_save())
            if self._open and self._may_step() and (step := self._engine.step()):
                self._queue(step)
                self._send()

    def _may_step(self) -> bool:
        # A reader that does not keep up stops the engine, not the machine's memory.
        return self._engine.busy and len(self._unsent) < _MAX_UNSENT_BYTES

    def _may_save(self) -> bool:
        """Whether a page was brought to disk and another may be to do: whoever asks comes first."""
        return not self._engine.busy and self._engine.save_one()

    def _exchange(self, *, wait: bool) -> None:
        writing = selectors.EVENT_WRITE if self._unsent else 0
        self._selector.modify(self._connection, selectors.EVENT_READ | writing)
        for _, events in self._selector.select(None if wait else 0):
            if events & selectors.EVENT_WRITE:
                self._send()
            if events & selectors.EVENT_READ:
                self._receive()

    def _receive(self) -> None:
        try:
            data = self._connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._open = False
        for message in self._unframer.feed(data):
            self._handle(message)

    def _handle(self, message: ToWorker) -> None:
        if not isinstance(message, Generate):
            self._engine.cancel(message.request_id)
        elif refused := self._engine.submit(message):
            self._queue(refused)

    def _queue(self, message: FromWorker) -> None:
        self._unsent += frame(message)

    def _send(self) -> None:
        try:
            sent = self._connection.send(self._unsent)
        except BlockingIOError:
            return
        except ConnectionError:
            self._open = False
            return
        del self._unsent[:sent]


def main(arguments: list[str]) -> int:
    """Serve until the socket closes; returns the exit code."""
    # Ctrl-C reaches the whole foreground group: when to stop is the parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _inherited_socket(arguments) as connection:
            settings = _read_settings(sys.stdin.buffer.read())
            engine, ready = open_engine(settings)
            Worker(connection, engine).serve(ready)
    except EngineError as error:
        return _give_up(error, EXIT_PROTOCOL)
    except TokenworksError as error:
        return _give_up(error, EXIT_CANNOT_SERVE)
    return 0


def open_engine(settings: EngineSettings) -> tuple[Engine, Ready]:
    """Load the model and make room for its KV store.

    Raises ConfigError or ModelError if that cannot work.
    """
    try:
        model = load_model(Path(settings.model_path))
        executor = open_executor(model, settings)
        draft = _open_draft(settings)
        pages = page_count(executor.page_bytes, executor.context_length, settings)
        page_bytes = executor.page_bytes + (draft.page_bytes if draft else 0)
        _check_memory(pages * page_bytes, read_memory())
        spill = _open_spill(settings, executor.description)
        engine = Engine(executor, settings, MonotonicClock(), spill, draft)
    except MemoryError as error:
        raise ConfigError(
            "this machine has not enough memory left for the model and its KV store",
            hint="end other programs, take a smaller model, or set a smaller kv_memory_mb",
        ) from error
    guessing = f", {settings.draft.model_id} guesses" if draft else ""
    return engine, describe(engine, settings, executor.description + guessing)


def _open_draft(settings: EngineSettings) -> ModelExecutor | None:
    """The model that guesses, if one is given: its weights as they are in its file."""
    if not settings.draft.path or settings.speculation == "off":
        return None
    own = msgspec.structs.replace(settings, rounding=NO_ROUNDING, context_length=0)
    return open_executor(load_model(Path(settings.draft.path)), own)


def _open_spill(settings: EngineSettings, executor: str) -> Spill | None:
    """The computed beginnings that are kept on disk, if they are."""
    if not settings.prefix_cache_dir:
        return None
    said = (
        __version__,
        FORMATS_VERSION,
        _kernels_build(),
        identity_of(Path(settings.model_path)),
        msgspec.json.encode(settings.rounding),
        re.sub(r", \d+ threads?", "", executor),  # their number changes no bit
    )
    root = Path(settings.prefix_cache_dir).expanduser()
    return Spill.open(root, repr(said), settings.prefix_cache_mb * 2**20)


def _kernels_build() -> str:
    """Tells one build of the kernels from all others; empty if there are none."""
    found = importlib.util.find_spec("tokenworks.inference._kernels")
    if found is None or found.origin is None:
        return ""
    return blake2b(Path(found.origin).read_bytes()).hexdigest()


def _check_memory(kv_bytes: int, memory: Memory) -> None:
    """Memory is given out page by page as it is used: too much of it would be noticed too late.

    Only what can never be met is refused: a worker that takes over from a dead one is to start even
    if others need much just now. What is free is checked before the first one starts.
    """
    limits = [amount for amount in (memory.total, memory.limit) if amount is not None]
    if limits and kv_bytes > min(limits):
        raise ConfigError(
            f"the KV store would take {kv_bytes >> 20} MiB, more than the {min(limits) >> 20} MiB "
            "that can be used here",
            hint="set a smaller kv_memory_mb, max_sequences or context_length",
        )


def describe(engine: Engine, settings: EngineSettings, executor: str) -> Ready:
    """What the worker says first."""
    return Ready(
        model=settings.model_id,
        executor=executor,
        context_length=engine.context_length,
        model_length=engine.model_length,
        pages_total=engine.pages_total,
        max_sequences=settings.max_sequences,
    )


def _inherited_socket(arguments: list[str]) -> socket.socket:
    try:
        return socket.socket(fileno=int(arguments[0]))
    except (IndexError, ValueError, OSError) as error:
        raise ConfigError(
            f"the engine worker needs the number of an inherited socket, not {arguments}",
            hint="it is started by: tokenworks up",
        ) from error


def _read_settings(text: bytes) -> EngineSettings:
    try:
        return msgspec.json.decode(text, type=EngineSettings)
    except msgspec.DecodeError as error:
        raise ConfigError(f"the engine worker's settings cannot be read: {error}") from error


def _give_up(error: TokenworksError, code: int) -> int:
    sys.stderr.write(f"error: {error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

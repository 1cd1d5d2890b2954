"""Keeps one engine worker alive: starts it, awaits it, starts it again when it dies."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Literal

from tokenworks.errors import EngineError, EngineLost
from tokenworks.fleet.processes import Backoff, Process, describe_exit
from tokenworks.inference.client import EngineClient, encode_settings, worker_command
from tokenworks.inference.messages import EXIT_CANNOT_SERVE, Ready
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.clock import Clock

logger = logging.getLogger(__name__)

START_SECONDS = 300.0
GRACE_SECONDS = 2.0
MOST_FAILED_STARTS = 5

State = Literal["starting", "ready", "restarting", "failed", "stopped"]


class Supervisor:
    """Owns the worker of one model. `state` and `reason` say how it is.

    A worker that dies is started again after the back-off's delay, for ever. One that dies before
    it was ready `MOST_FAILED_STARTS` times in a row, or says that it never can be, is given up.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        backoff: Backoff,
        clock: Clock,
        on_restart: Callable[[], None],
    ) -> None:
        self.state: State = "stopped"
        self.reason = ""
        self.restarts = 0
        self.process: Process | None = None
        self.client: EngineClient | None = None
        self.ready: Ready | None = None
        self._settings = settings
        self._backoff = backoff
        self._clock = clock
        self._on_restart = on_restart
        self._last_words: tuple[str, ...] = ()
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once the worker is ready. Raises EngineError, with its last words, if given up."""
        self.state = "starting"
        self._task = asyncio.create_task(self._supervise(), name="engine supervisor")
        try:
            await self.connection()
        except EngineError as error:
            said = "".join(f"\n  {line}" for line in self._last_words[-12:])
            raise EngineError(f"{error.message}{said}", hint=error.hint) from None

    async def connection(self) -> tuple[EngineClient, Ready]:
        """The worker to talk to, waiting while one is being started. Raises EngineError if none."""
        if not self._settled():
            async with self._changed:
                await self._changed.wait_for(self._settled)
        if self.client is None or self.ready is None:
            raise EngineError(f"The engine of {self._settings.model_id!r} {self.reason}")
        return self.client, self.ready

    async def close(self) -> None:
        """End the worker. Whoever waits for it, or streams from it, gets EngineError."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._become("stopped", "was stopped")

    def _settled(self) -> bool:
        if self.state == "ready":
            # The socket knows of a death before the process table does.
            return self.client is not None and not self.client.lost
        return self.state in ("failed", "stopped")

    async def _become(self, state: State, reason: str = "") -> None:
        async with self._changed:
            self.state, self.reason = state, reason
            self._changed.notify_all()

    async def _supervise(self) -> None:
        try:
            await self._keep_alive()
        except Exception as error:  # whoever waits for a worker must hear that none will come
            logger.exception("the engine cannot be started")
            await self._become("failed", f"could not be started ({error})")

    async def _keep_alive(self) -> None:
        failures = failed_starts = 0
        while True:
            began = self._clock.now()
            was_ready, code = await self._one_life()
            failures = self._backoff.failures_after(failures, self._clock.now() - began)
            failed_starts = 0 if was_ready else failed_starts + 1
            how = describe_exit(code)
            if code == EXIT_CANNOT_SERVE or failed_starts >= MOST_FAILED_STARTS:
                logger.error("the engine ended with %s; given up", how)
                return await self._become("failed", f"could not be started ({how})")
            delay_s = self._backoff.delay_s(failures)
            logger.warning("the engine ended with %s; a new one starts in %g s", how, delay_s)
            await self._become("restarting" if self.restarts or was_ready else "starting", how)
            await asyncio.sleep(delay_s)
            self.restarts += 1
            self._on_restart()

    async def _one_life(self) -> tuple[bool, int]:
        """Run a worker until it dies; return whether it was ever ready, and its exit code."""
        self.process, self.client = await self._launch()
        try:
            self.ready = await self._ready_or_none(self.client)
            if self.ready is None:
                return False, await _end_of(self.process)
            await self._become("ready")
            return True, await self.process.wait()
        finally:
            self._last_words = self.process.last_lines
            await self.client.close()
            await self.process.terminate(GRACE_SECONDS)
            self.client = self.ready = None

    async def _launch(self) -> tuple[Process, EngineClient]:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await Process.start(
                    f"engine {self._settings.model_id}",
                    worker_command(theirs.fileno()),
                    stdin=encode_settings(self._settings),
                    pass_fds=(theirs.fileno(),),
                )
            return process, await EngineClient.connect(ours)
        except BaseException:
            ours.close()  # a worker that was started notices, and ends
            raise

    async def _ready_or_none(self, client: EngineClient) -> Ready | None:
        with contextlib.suppress(EngineLost, TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                return await client.ready()
        return None


async def _end_of(process: Process) -> int:
    """The exit code of a worker that has let go of its socket, or never got ready."""
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            return await process.wait()
    except TimeoutError:
        return await process.terminate(GRACE_SECONDS)

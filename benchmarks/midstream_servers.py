"""Servers behind cutting proxies, and a gateway before them: for answers that are broken off.

A server may be killed and comes back on its own port, as a supervisor would bring it back.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cutting_proxy import CuttingProxy, Orders
from gateway_overhead import HERE, PROGRAM

from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.text.tiny_vocabulary import tiny_vocabulary
from tokenworks.inference.text.vocabulary import ANSWER_ENDS

STARTED_WITHIN_S: Final = 60.0


@dataclass
class Server:
    """A program that listens on `port`, whatever happens to it."""

    name: str
    command: Sequence[str | Path]
    folder: Path
    port: int
    restarts: int = 0
    _process: asyncio.subprocess.Process | None = None
    _again: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once it listens. Raises RuntimeError with what it said if it does not."""
        environment = {**os.environ, "TOKENWORKS_HOME": str(self.folder / self.name)}
        log = self.folder / f"{self.name}.log"
        with log.open("a") as file:
            self._process = await asyncio.create_subprocess_exec(
                *map(str, self.command),
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(STARTED_WITHIN_S):
                while not await self._listens():
                    if self._process.returncode is not None:
                        raise RuntimeError(f"{self.name} ended:\n{log.read_text()[-2000:]}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise RuntimeError(f"{self.name} is not ready:\n{log.read_text()[-2000:]}") from None

    def kill(self) -> None:
        """End it and what it started by SIGKILL, and start it again."""
        self._end(signal.SIGKILL)
        self.restarts += 1
        self._again = asyncio.create_task(self._start_again())

    async def ready(self) -> None:
        if self._again is not None:
            await self._again

    async def close(self) -> None:
        await self.ready()
        self._end(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    async def _start_again(self) -> None:
        assert self._process is not None
        await self._process.wait()
        await self.start()

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, how)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@dataclass(frozen=True)
class Setup:
    address: str
    servers: list[Server]
    orders: Orders = field(default_factory=Orders)

    async def ready(self) -> None:
        """All servers are up."""
        for server in self.servers:
            await server.ready()

    @property
    def killed(self) -> int:
        return sum(server.restarts for server in self.servers)


@asynccontextmanager
async def setup(
    folder: Path, commands: dict[str, Sequence[str | Path]], policies: str
) -> AsyncIterator[Setup]:
    """Servers by name, each with a port added to its command, and a gateway that asks them through
    proxies. `policies` has `{port_NAME}` where each is to be asked."""
    orders = Orders()
    async with AsyncExitStack() as stack:
        servers, ports = [], {}
        for name, command in commands.items():
            port = free_port()
            server = Server(name, [*command, "--port", str(port)], folder, port)
            proxy = CuttingProxy(name, orders, server.kill)
            proxy.target = port
            await proxy.start()
            stack.push_async_callback(proxy.close)
            stack.push_async_callback(server.close)
            servers.append(server)
            ports[f"port_{name}"] = proxy.port
        await asyncio.gather(*(server.start() for server in servers))
        path = folder / "policies.toml"
        path.write_text(policies.format(**ports))
        port = free_port()
        up = (*PROGRAM, "up", "--model", "none", "--policies", path, "--port", str(port))
        gateway = Server("gateway", up, folder, port)
        stack.push_async_callback(gateway.close)
        await gateway.start()
        yield Setup(f"http://127.0.0.1:{port}", servers, orders)


def engine(model: Path) -> Sequence[str | Path]:
    """Our own server with this model."""
    return (*PROGRAM, "up", "--model", model, "--threads", "1")


def scripted(*options: str) -> Sequence[str | Path]:
    return (sys.executable, HERE / "continuing_backend.py", *options)


def write_model(path: Path) -> Path:
    """A model of random weights whose answers only their limit ends."""
    vocabulary = tiny_vocabulary()
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    vocabulary["tokenizer.ggml.tokens"] = [
        f"<|no end {index}|>" if token in ANSWER_ENDS else token
        for index, token in enumerate(tokens)
    ]
    del vocabulary["tokenizer.ggml.eos_token_id"]
    config = replace(TINY_CONFIG, vocabulary=len(tokens), context_length=1024, tied_embedding=False)
    write_random_model(path, config, metadata=vocabulary)
    return path


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])

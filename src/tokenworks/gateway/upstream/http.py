"""An HTTP/1.1 client for one backend: keeps connections, verifies TLS, follows nothing.

Asks for one thing that general clients do not offer together: little time on each piece of a
stream, and a connection to exactly the address that was checked.
"""

import asyncio
import os
import re
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import truststore

from tokenworks.errors import ConfigError
from tokenworks.gateway.upstream.address import Endpoint, Resolve, checked, system_resolve
from tokenworks.gateway.upstream.connection import Connection, WireError

KEPT_S: Final = 20.0
"""How long an idle connection is kept: less than most servers keep theirs."""

MOST_KEPT: Final = 100
_FIELD: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`fields` are headers; those that HTTP itself needs are added."""

    method: str
    path: str
    fields: Mapping[str, str] = field(repr=False)  # a key among them
    body: bytes = field(default=b"", repr=False)


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """Verifies by the system's trust store, and by the certificates in `ca_file` if there is one.

    Raises ConfigError if that cannot be read.
    """
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"ca_file {ca_file!r} holds no certificates: {error}") from None
    return context


class HttpClient:
    """Connections to one endpoint. `request` and `give_back` go together, whatever happens.

    A request on a kept connection that breaks before a byte of a reply came is sent once again: the
    backend had closed an idle connection, as it may at any time.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        tls: ssl.SSLContext | None = None,
        connect_s: float = 5.0,
        resolve: Resolve = system_resolve,
    ) -> None:
        self._endpoint = endpoint
        self._tls = (tls or tls_context()) if endpoint.tls else None
        self._connect_s = connect_s
        self._resolve = resolve
        self._kept: deque[Connection] = deque()  # the newest last
        self._busy: set[Connection] = set()
        self._closed = False

    @property
    def connections(self) -> int:
        """Open ones, idle or not."""
        return len(self._busy) + sum(not one.closed for one in self._kept)

    async def request(self, request: Request, *, by: float) -> Connection:
        """Send, and return once the reply's head is there, before this time of the loop.

        Raises WireError, BackendError for an address where the backend may not be.
        """
        loop = asyncio.get_running_loop()
        data = self._encoded(request)
        while True:
            connection = self._kept_one(loop.time()) or await self._connect(loop, by)
            self._busy.add(connection)
            try:
                connection.send(data)
                await connection.head(by)
                return connection
            except WireError as error:
                self.give_back(connection)
                if not (error.untouched and connection.exchanges > 1):
                    raise
            except BaseException:
                self.give_back(connection)
                raise

    def give_back(self, connection: Connection) -> None:
        """Keep it for another request, or close it at once if its reply was not read to the end."""
        self._busy.discard(connection)
        if self._closed or not connection.reusable or len(self._kept) >= MOST_KEPT:
            connection.abort()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        self._kept.append(connection)

    def close(self) -> None:
        """Close all connections; who reads from one of them gets WireError."""
        self._closed = True
        for connection in (*self._kept, *self._busy):
            connection.abort()
        self._kept.clear()

    def _kept_one(self, now: float) -> Connection | None:
        while self._kept and now - self._kept[0].idle_since > KEPT_S:
            self._kept.popleft().abort()
        while self._kept:
            connection = self._kept.pop()
            if not connection.closed:
                return connection
        return None

    def _encoded(self, request: Request) -> bytes:
        lines = [
            f"{request.method} {self._endpoint.path}{request.path} HTTP/1.1",
            f"host: {self._endpoint.authority}",
            "accept-encoding: identity",
        ]
        for name, value in request.fields.items():
            if not _FIELD.fullmatch(value):  # a line end in it would begin another field
                raise ConfigError(f"The header {name!r} of a backend holds what no header may")
            lines.append(f"{name}: {value}")
        if request.body:
            lines.append(f"content-length: {len(request.body)}")
        return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + request.body

    async def _connect(self, loop: asyncio.AbstractEventLoop, by: float) -> Connection:
        if self._closed:
            raise WireError("this backend was closed")
        ends, error = min(by, loop.time() + self._connect_s), "nobody answers there"
        for number, address in enumerate(addresses := await self._addresses(ends)):
            # One that leads nowhere leaves time for the others.
            share_s = (ends - loop.time()) / (len(addresses) - number)
            try:
                async with asyncio.timeout(share_s):
                    return await self._connect_to(loop, address)
            except OSError as problem:
                error = _in_words(problem)
        raise WireError(error)

    async def _addresses(self, by: float) -> list[str]:
        endpoint = self._endpoint
        try:
            async with asyncio.timeout_at(by):
                return checked(endpoint, await self._resolve(endpoint.host, endpoint.port))
        except OSError as problem:
            why = problem.strerror or "no answer in time"
            raise WireError(f"the name {endpoint.host!r} cannot be resolved ({why})") from None

    async def _connect_to(self, loop: asyncio.AbstractEventLoop, address: str) -> Connection:
        """`address` is none to resolve, so that nobody can lead the connection elsewhere."""
        _, connection = await loop.create_connection(
            lambda: Connection(loop),
            address,
            self._endpoint.port,
            ssl=self._tls,
            server_hostname=self._endpoint.host if self._tls else None,
        )
        return connection


def _in_words(problem: OSError) -> str:
    if isinstance(problem, TimeoutError):
        return "no connection could be made in time"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({problem.verify_message})"
    if isinstance(problem, ssl.SSLError):
        return f"no TLS could be agreed on ({problem.reason or 'broken off'})"
    return os.strerror(problem.errno).lower() if problem.errno else "the connection broke"

"""One question to a backend over HTTP, and what its reply means before it is translated."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tokenworks.errors import BackendError, DeadlineError
from tokenworks.gateway.upstream.connection import Connection, WireError
from tokenworks.gateway.upstream.dialect import Answers, Call
from tokenworks.gateway.upstream.events import Event, EventReader, EventTooLong
from tokenworks.gateway.upstream.failures import failure_of
from tokenworks.gateway.upstream.http import HttpClient, Request
from tokenworks.gateway.upstream.settings import Key, Limits
from tokenworks.telemetry.trace import TraceContext

MOST_REFUSAL_BYTES: Final = 64 * 1024
REFUSAL_S: Final = 5.0
MOST_REPLY_BYTES: Final = 64 * 1024 * 1024
REST_OF_REPLY_S: Final = 0.1
"""How long the end of a reply may take once its answer is complete, to keep the connection."""

_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Patience:
    """Until when to wait for the next piece of one answer. Times are the loop's."""

    def __init__(self, limits: Limits, deadline_s: float | None, now: float) -> None:
        self._idle_s = limits.idle_s
        self._last_by = now + limits.total_s
        self._next_by = now + limits.first_byte_s
        self._speak_by = None if deadline_s is None else now + deadline_s

    def until(self) -> float:
        by = min(self._next_by, self._last_by)
        return by if self._speak_by is None else min(by, self._speak_by)

    def sign_of_life(self, now: float) -> None:
        self._next_by = now + self._idle_s

    def spoke(self) -> None:
        """Text came: the request's deadline is kept."""
        self._speak_by = None

    def missed(self, now: float) -> bool:
        return self._speak_by is not None and now >= self._speak_by - 1e-3


@dataclass(frozen=True, slots=True)
class Origin:
    """Which request something is asked for, and the span of asking it, if anybody traces it."""

    request_id: str = ""
    span: TraceContext | None = None


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Asks one backend. Everything that goes wrong is raised as an error for people.

    `sees_state`: the backend is told the trace's state too. That is text of the client's which
    nobody has looked into; the ids beside it are random.
    """

    name: str
    client: HttpClient
    key: Key
    key_fields: Callable[[str], Mapping[str, str]]
    unix_time: Callable[[], float]
    sees_state: bool = False

    async def open(self, call: Call, origin: Origin, patience: Patience) -> Connection:
        """The reply's head is there; `close` it in the end. Raises BackendError, DeadlineError."""
        request = Request(
            method="POST" if call.body else "GET",
            path=call.path,
            fields=self._fields(call, origin),
            body=call.body,
        )
        try:
            return await self.client.request(request, by=patience.until())
        except WireError as error:
            self._check_deadline(patience)
            raise self.failed(error.message) from None

    def close(self, connection: Connection) -> None:
        self.client.give_back(connection)

    async def check(self, connection: Connection, content_type: str) -> None:
        """Raises what a reply means that is not of this type, or of another status than 200."""
        if connection.status != 200:
            body = await self._body(connection, MOST_REFUSAL_BYTES, REFUSAL_S, strict=False)
            raise failure_of(
                self.name,
                connection.status,
                connection.headers,
                body,
                unix_time=self.unix_time(),
                secret=self.key.reveal(),
            )
        kind = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != content_type:
            raise self.failed(f"it answered with {kind[:60]!r} instead of {content_type!r}")
        if connection.headers.get("content-encoding", "identity").lower() != "identity":
            raise self.failed("it compressed its answer, which it was asked not to do")

    async def events(
        self,
        connection: Connection,
        reader: EventReader,
        answers: Answers,
        patience: Patience,
    ) -> list[Event] | None:
        """The events that come next, maybe none yet; None once nothing more will come."""
        signs = reader.comments
        try:
            data = await connection.read(patience.until())
            if not data:
                return None
            events = reader.feed(data)
        except WireError as error:
            if answers.finished:  # what is lost is at most the usage
                return None
            self._check_deadline(patience)
            raise answers.broken(error.message) from None
        except EventTooLong as error:
            raise answers.broken(str(error)) from None
        if events or reader.comments != signs:  # an event that never ends is no sign of life
            patience.sign_of_life(asyncio.get_running_loop().time())
        return events

    async def whole(self, call: Call, origin: Origin, patience: Patience) -> dict[str, Any]:
        """A reply that is one JSON object."""
        connection = await self.open(call, origin, patience)
        try:
            await self.check(connection, "application/json")
            wait_s = patience.until() - asyncio.get_running_loop().time()
            reply = msgspec.json.decode(await self._body(connection, MOST_REPLY_BYTES, wait_s))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self.failed("it sent what is not JSON") from None
        finally:
            self.close(connection)
        if not isinstance(reply, dict):
            raise self.failed("it sent JSON that is no object")
        return reply

    async def finish(self, connection: Connection) -> None:
        """Read what is left of a reply whose answer is complete, if it comes at once."""
        by = asyncio.get_running_loop().time() + REST_OF_REPLY_S
        try:
            while await connection.read(by):
                pass
        except WireError:
            pass  # `close` sees that it cannot be kept

    def failed(self, why: str) -> BackendError:
        return BackendError(f"The backend {self.name!r} cannot answer: {why}")

    async def _body(
        self, connection: Connection, most: int, within_s: float, *, strict: bool = True
    ) -> bytes:
        by = asyncio.get_running_loop().time() + within_s
        body = bytearray()
        try:
            while len(body) <= most and (data := await connection.read(by)):
                body += data
        except WireError as error:
            if strict:
                raise self.failed(error.message) from None
        if len(body) > most and strict:
            raise self.failed(f"its reply has more than {most} bytes")
        return bytes(body)

    def _fields(self, call: Call, origin: Origin) -> dict[str, str]:
        fields = {"user-agent": "tokenworks", **self.key_fields(self.key.reveal())}
        if call.body:
            fields["content-type"] = "application/json"
        if _SANE_ID.fullmatch(origin.request_id):
            fields["x-request-id"] = origin.request_id
        if origin.span is not None:
            fields["traceparent"] = origin.span.traceparent
            if origin.span.state and self.sees_state:
                fields["tracestate"] = origin.span.state
        return fields

    def _check_deadline(self, patience: Patience) -> None:
        if patience.missed(asyncio.get_running_loop().time()):
            raise DeadlineError(
                f"The backend {self.name!r} said nothing before the request's deadline",
                retry_after_s=1.0,
            ) from None

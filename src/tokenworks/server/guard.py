"""The door: who may come in, under which name, from which page. Runs before anything else.

A web page elsewhere must not drive the local engine, so Host and Origin are checked on every
request; a name that only resolves to this machine (DNS rebinding) is not enough to come in.
"""

import ipaddress
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenworks.server.callers import Callers
from tokenworks.server.credentials import key_of
from tokenworks.server.replies import Failure, failure_of, refuse
from tokenworks.server.settings import ServerSettings, is_loopback
from tokenworks.telemetry import trace
from tokenworks.telemetry.log import request_id
from tokenworks.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

# Ids of 16 hexadecimal digits are made here, and no detector looks at those: a card's number would
# pass for one.
_SANE_ID = re.compile(r"(?![0-9]{16}$)[A-Za-z0-9._:-]{1,64}")
_OPEN_PATHS = re.compile(r"/(health|ready|chat\.js|chat\.css|favicon\.svg)?")
_PREFLIGHT_HEADERS = {
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": "authorization, *",  # * leaves authorization out
    "access-control-max-age": "600",
}


class ClientGone(Exception):  # noqa: N818  (reads as the fact it states)
    """The client left: nobody is there to answer."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Pure: says whether a request's headers let it in, by raising or not."""

    host: str
    allowed_hosts: frozenset[str]
    allowed_origins: frozenset[str]

    @classmethod
    def of(cls, settings: ServerSettings) -> "Rules":
        return cls(
            host=settings.host.strip("[]").lower(),
            allowed_hosts=frozenset(name.strip("[]").lower() for name in settings.allowed_hosts),
            allowed_origins=frozenset(origin.lower() for origin in settings.allowed_origins),
        )

    def check_source(self, headers: Headers) -> str | None:
        """Raise HttpRefusal, or return the origin elsewhere that may read the reply, if any."""
        host = self._check_host(headers.getlist("host"))
        return self._check_origin(headers.getlist("origin"), host)

    def _check_host(self, hosts: list[str]) -> str:
        if len(hosts) != 1:
            raise refuse(400, "bad_host", f"A request needs one Host header, not {len(hosts)}")
        name = _host_name(hosts[0])
        if (
            is_loopback(name)
            or name in self.allowed_hosts
            or name == self.host
            or (self.host in ("0.0.0.0", "::") and _is_address(name))
        ):
            return hosts[0].lower()
        raise refuse(
            403,
            "host_not_allowed",
            f"This server does not answer to the name {name[:100]!r}. "
            "Its owner can add it to the setting allowed_hosts",
        )

    def _check_origin(self, origins: list[str], host: str) -> str | None:
        if not origins:
            return None
        origin = origins[0].lower()
        if len(origins) == 1 and origin in (f"http://{host}", f"https://{host}"):
            return None
        if len(origins) == 1 and origin in self.allowed_origins:
            return origins[0]
        raise refuse(
            403,
            "origin_not_allowed",
            f"Pages of {origin[:100]!r} may not use this server. "
            "Its owner can add that origin to the setting allowed_origins",
        )


class Guard:
    """ASGI middleware, outermost of ours: rules, caller, request id, every error as a reply.

    Puts the caller's key into the scope, for whatever path needs one, and the request's place in a
    trace where the log and backends find it. `recording`: traces are kept also of requests that
    nobody has traced before.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        rules: Rules,
        callers: Callers,
        metrics: Metrics,
        recording: bool = False,
    ) -> None:
        self._app = app
        self._recording = recording
        self._rules = rules
        self._callers = callers
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        identity = given if _SANE_ID.fullmatch(given) else secrets.token_hex(8)
        scope["tokenworks.request_id"] = identity
        token = request_id.set(identity)
        parents, states = headers.getlist("traceparent"), headers.getlist("tracestate")
        span = trace.accepted(parents, states, recording=self._recording)
        traced = trace.current.set(span)

        def count(status: int) -> None:
            self._metrics.request(getattr(scope.get("route"), "path", "other"), status)

        reply = _Reply(send, identity, count)
        try:
            await self._answer(scope, headers, receive, reply)
        finally:
            reply.end()
            trace.current.reset(traced)
            request_id.reset(token)

    async def _answer(
        self, scope: Scope, headers: Headers, receive: Receive, reply: "_Reply"
    ) -> None:
        try:
            origin = self._rules.check_source(headers)
            if origin:
                reply.add({"access-control-allow-origin": origin, "vary": "Origin"})
            if origin and scope["method"] == "OPTIONS":
                await Response(status_code=204, headers=_PREFLIGHT_HEADERS)(scope, receive, reply)
            else:
                if not _OPEN_PATHS.fullmatch(scope["path"]):
                    scope["tokenworks.key"] = self._callers.identify(key_of(headers))
                if scope["method"] == "POST":
                    _check_content_type(headers)
                await self._app(scope, receive, reply)
        except ClientGone:
            reply.status = reply.status or 499
            logger.info("%s %s: the client left", scope["method"], scope["path"])
        except Exception as error:
            failure = failure_of(error)
            if failure.status == 500:
                logger.exception("%s %s failed", scope["method"], scope["path"])
            if reply.status:
                raise  # too late for a reply: the connection ends
            self._metrics.refused(failure.code or failure.type)
            if span := trace.current.get():
                reply.add({"x-trace-id": span.trace_id})
            await failure_response(failure, scope["path"])(scope, receive, reply)


class _Reply:
    """`send`, with our headers added and the status remembered (0: none sent yet).

    `on_end` hears the status once, before the reply's last piece leaves: whoever has the whole
    reply finds it counted.
    """

    def __init__(self, send: Send, identity: str, on_end: Callable[[int], None]) -> None:
        self.status = 0
        self._send = send
        self._on_end: Callable[[int], None] | None = on_end
        self._headers = [(b"x-request-id", identity.encode())]

    def add(self, headers: dict[str, str]) -> None:
        self._headers += [(name.encode(), value.encode()) for name, value in headers.items()]

    def end(self) -> None:
        """The reply ends here, whole or not."""
        if self._on_end is not None:
            self._on_end(self.status)
            self._on_end = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._headers]
        elif not message.get("more_body", False):
            self.end()
        try:
            await self._send(message)
        except RuntimeError as error:
            # uvicorn 0.54 drops what is written after a disconnect, but on uvloop it writes to a
            # transport that is closed and not yet reported as such.
            if "handler is closed" in str(error):
                raise ClientGone from None
            raise


def failure_response(failure: Failure, path: str) -> Response:
    """The reply, in the shape of the API that `path` belongs to."""
    return Response(
        failure.body(path), failure.status, headers=failure.headers, media_type="application/json"
    )


def _check_content_type(headers: Headers) -> None:
    kinds = headers.getlist("content-type")
    kind = kinds[0] if len(kinds) == 1 else ""
    # A form or plain text would need no permission from the browser to come from elsewhere.
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise refuse(
            415,
            "unsupported_media_type",
            f"The body must be sent as 'Content-Type: application/json', not {kind[:100]!r}",
        )


def _host_name(host: str) -> str:
    """`Name:8410` → `name`; `[::1]:8410` → `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

"""Reads a request's body: bounded in bytes, time and nesting, and strictly JSON."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import NoReturn, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenworks.errors import RequestError
from tokenworks.server.guard import ClientGone
from tokenworks.server.replies import refuse
from tokenworks.server.settings import ServerSettings
from tokenworks.server.shown import shown_name

_READ_SECONDS = 60.0
_LARGE_BYTES = 64 * 1024
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_ONE_KIND_OF_BRACKET = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


T = TypeVar("T")


async def read_object(
    request: Request, settings: ServerSettings, check: Callable[[dict[str, object]], T]
) -> T:
    """What `check` makes of the JSON object in the body; a large one stalls nobody's stream.

    Raises HttpRefusal (408, 413) and RequestError (400).
    """
    body = await _read_in_time(request, settings.max_body_bytes)
    if len(body) < _LARGE_BYTES:
        return check(parse_object(body, settings.max_nesting))
    return await asyncio.to_thread(lambda: check(parse_object(body, settings.max_nesting)))


class BoundedBodies:
    """ASGI middleware for routes whose body FastAPI reads, which knows no bounds.

    Below `path`, the body is read here: raises what `read_object` raises for one that is too large,
    too slow or nested too deep.
    """

    def __init__(self, app: ASGIApp, *, settings: ServerSettings, path: str) -> None:
        self._app, self._settings, self._path = app, settings, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._path):
            return await self._app(scope, receive, send)
        body = await _read_in_time(Request(scope, receive), self._settings.max_body_bytes)
        if deeper_than(body, self._settings.max_nesting):
            raise _too_deep(self._settings.max_nesting)
        left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return left.pop() if left else await receive()

        await self._app(scope, again, send)


async def _read_in_time(request: Request, limit: int) -> bytes:
    try:
        async with asyncio.timeout(_READ_SECONDS):
            return await _read(request, limit)
    except TimeoutError:
        raise refuse(
            408, "body_too_slow", f"The body did not arrive within {_READ_SECONDS:g} s"
        ) from None
    except ClientDisconnect:
        raise ClientGone from None


async def _read(request: Request, limit: int) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        _too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> NoReturn:
    raise refuse(
        413,
        "body_too_large",
        f"The body is larger than {limit} bytes. Send less text, or raise max_body_bytes",
        connection="close",
    )


def parse_object(body: bytes, max_nesting: int) -> dict[str, object]:
    """Parse strict JSON: UTF-8, no NaN or Infinity, no name twice in one object, an object on top.

    Raises RequestError saying what is wrong and where.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"The body is not UTF-8: bad byte at offset {error.start}") from None
    if deeper_than(body, max_nesting):
        raise _too_deep(max_nesting)
    try:
        value = json.loads(text, parse_constant=_not_a_number, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise RequestError(
            f"The body is not valid JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except ValueError:  # a number of thousands of digits
        raise RequestError("The body is not valid JSON: a number has too many digits") from None
    if _HALF_CHARACTER.search(text):
        _check_characters(value)
    if not isinstance(value, dict):
        raise RequestError("The body must be a JSON object, like {…}")
    return value


def _too_deep(limit: int) -> RequestError:
    return RequestError(f"The body is nested deeper than {limit} levels")


def deeper_than(body: bytes, limit: int) -> bool:
    """Whether brackets outside of strings are nested deeper than `limit`; never recurses.

    Each round removes the innermost pairs, so valid JSON of depth d is empty after d rounds; what
    is left after `limit` rounds with a pair in it is deeper.
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    brackets = _outside_strings(body).translate(_ONE_KIND_OF_BRACKET, _NOT_BRACKETS)
    for _ in range(limit):
        brackets = brackets.replace(b"[]", b"")
    # Brackets without a partner are no JSON, but the parser would go that deep to find out.
    return b"[]" in brackets or brackets.count(b"[") > limit


def _outside_strings(body: bytes) -> bytes:
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(body.split(b'"')[::2])


def _check_characters(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise RequestError(
            "The body holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"
        ) from None


def _not_a_number(name: str) -> NoReturn:
    raise RequestError(f"The body holds {name}, which is not JSON: send a number or leave it out")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise RequestError(
                    f"The body has the name {shown_name(name)!r} twice in one object"
                )
            seen.add(name)
    return found

"""`/admin/requests`: what was asked lately, where it went, and why."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from tokenworks.errors import AccessError, UnknownCaller
from tokenworks.server.admin.access import Admin, Administration, Json, check_still
from tokenworks.server.admin.shapes import NOT_FOUND, REFUSALS, Listed, RequestShown, RouteShown
from tokenworks.server.replies import refuse

HEARTBEAT_S = 15.0
"""Proxies close a connection on which nothing is said for longer than some such time."""


def requests_router(administration: Administration) -> APIRouter:
    router = APIRouter(prefix="/admin", tags=["requests"], responses=REFUSALS)
    recent = administration.gateway.recent

    @router.get("/requests", response_model=Listed[RequestShown])
    async def list_requests(_: Admin, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Json:
        """The newest requests first, without anything that they said."""
        return {"data": [record.brief() for record in recent.newest(limit)]}

    @router.get("/requests/{request_id}/route", response_model=RouteShown, responses=NOT_FOUND)
    async def explain(_: Admin, request_id: str) -> Json:
        """Why a request went where it did: candidates, scores, what was ruled out by which rule."""
        record = recent.find(request_id)
        if record is None:
            raise refuse(
                404, "request_not_found", "There is no request of this id among the newest"
            )
        return record.whole()

    @router.get(
        "/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    async def events(key: Admin) -> Response:
        """Requests as they end, as server-sent events, while the key holds."""

        async def lines() -> AsyncIterator[bytes]:
            with recent.followed() as queue:
                yield b": following\n\n"
                while True:
                    record = None
                    with suppress(TimeoutError):
                        async with asyncio.timeout(HEARTBEAT_S):
                            record = await queue.get()
                    try:
                        check_still(key, administration.books.keys, "admin")
                    except (UnknownCaller, AccessError):
                        return
                    if record is None:
                        yield b": still here\n\n"
                        continue
                    body = msgspec.json.encode(record.brief())
                    yield b"event: request\ndata: " + body + b"\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    return router

"""`/v1/responses/ID`: read one that is kept, read what led to it, delete it.

Only whoever made it can: for everybody else there is none of that id.
"""

from typing import Any

from fastapi import APIRouter
from msgspec import json
from starlette.requests import Request
from starlette.responses import Response

from tokenworks.errors import RequestError
from tokenworks.server.context import Context, json_response, key_of
from tokenworks.server.kept import Kept, Owner, owner_of
from tokenworks.server.replies import HttpRefusal, refuse
from tokenworks.server.responses.listing import listed, read_page


def add_reading(router: APIRouter, context: Context) -> None:
    @router.get("/v1/responses/{identity}")
    async def read(request: Request, identity: str) -> Response:
        if request.query_params.get("stream", "false") not in ("false", "0"):
            raise RequestError(
                "A response that is kept is not streamed again",
                hint="leave 'stream' out",
                param="stream",
            )
        return json_response((await kept_response(context, request, identity)).response)

    @router.get("/v1/responses/{identity}/input_items")
    async def read_items(request: Request, identity: str) -> Response:
        page = read_page(request.query_params)
        kept = await kept_response(context, request, identity)
        answered = len(json.decode(kept.response)["output"])
        items = json.decode(kept.items, type=list[dict[str, Any]])
        given = items[: len(items) - answered]
        return json_response(json.encode(listed(identity, given, page)))

    @router.post("/v1/responses/{identity}/cancel")
    async def cancel(request: Request, identity: str) -> Response:
        await kept_response(context, request, identity)
        raise RequestError(
            "This response is complete: only one that runs in the background could be cancelled, "
            "and 'background' is not supported",
            hint="close the connection of an answer to cancel it",
        )

    @router.delete("/v1/responses/{identity}")
    async def delete(request: Request, identity: str) -> Response:
        if not await context.responses.delete(_owner(request), identity):
            raise _not_found()
        gone = {"id": identity, "object": "response", "deleted": True}
        return json_response(json.encode(gone))


async def kept_response(context: Context, request: Request, identity: str) -> Kept:
    """Raises HttpRefusal (404) for one that is not there, or another's: nobody can tell."""
    found = await context.responses.get(_owner(request), identity)
    if found is None:
        raise _not_found()
    return found


def _owner(request: Request) -> Owner:
    """Raises AccessError for a key that may not ask models anything."""
    key = key_of(request)
    key.require("infer")
    return owner_of(key)


def _not_found() -> HttpRefusal:
    return refuse(404, "response_not_found", "There is no response of this id that is kept")

"""Replies to what no route takes: no such path, not with this method, not in this shape."""

from collections.abc import Sequence

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tokenworks.server.guard import failure_response
from tokenworks.server.replies import Failure


class UnknownRoute:
    """Exception handler: there is no such path (404), or not with this method (405)."""

    def __init__(self, routers: Sequence[APIRouter]) -> None:
        self._routes = [
            route for router in routers for route in router.routes if isinstance(route, APIRoute)
        ]

    async def __call__(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = dict(getattr(error, "headers", None) or {})
        what = f"{request.method} {ascii(request.url.path[:200])[1:-1]}"
        message = f"There is no {what} here. The API is under /v1: see GET /v1/models"
        code = "unknown_url"
        if status == 405:
            headers = {"allow": self._methods(request.scope["path"])}
            message = f"{what} is not possible; use {headers['allow'] or 'another method'}"
            code = "method_not_allowed"
        elif status == 400:
            message, code = "The body cannot be read as JSON", "invalid_value"
        failure = Failure(status=status, message=message, code=code, headers=headers)
        return failure_response(failure, request.url.path)

    def _methods(self, path: str) -> str:
        """All that are possible there: several routes may have the same path."""
        found = {
            method
            for route in self._routes
            if route.path_regex.match(path)
            for method in route.methods or ()
        }
        return ", ".join(sorted(found))


async def bad_request(request: Request, error: Exception) -> Response:
    """What does not fit the administration's description of itself (400)."""
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    where = ".".join(str(step) for step in first.get("loc", ())[1:])
    message = f"{where}: {first.get('msg', 'not understood')}".removeprefix(": ")
    failure = Failure(status=400, message=message, param=where or None, code="invalid_value")
    return failure_response(failure, request.url.path)

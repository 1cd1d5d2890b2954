"""Turns what went wrong into a reply in OpenAI's shape: status, headers and `{"error": {…}}`."""

import math
from dataclasses import dataclass, field

import msgspec

from tokenworks.errors import (
    ContextLengthError,
    DeadlineError,
    EngineError,
    ModelNotFound,
    QueueFullError,
    RequestError,
    TokenworksError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed request as the caller sees it."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        return msgspec.json.encode(
            {
                "error": {
                    "message": self.message,
                    "type": self.type,
                    "param": self.param,
                    "code": self.code,
                }
            }
        )


class HttpRefusal(Exception):  # noqa: N818  (reads as the fact it states)
    """The request is refused at the door, before anybody looks at what it asks for."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def refuse(status: int, code: str, message: str, **headers: str) -> HttpRefusal:
    """An HttpRefusal to raise; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpRefusal(Failure(status=status, code=code, message=message, headers=named))


def failure_of(error: Exception) -> Failure:
    """What the caller is told. An error that is not ours tells nothing of our insides."""
    if isinstance(error, HttpRefusal):
        return error.failure
    if not isinstance(error, TokenworksError):
        return Failure(
            status=500,
            message="Something went wrong inside the server; its log has the request's id",
            type="server_error",
            code="internal_error",
        )
    message = f"{error.message}. {_sentence(error.hint)}" if error.hint else error.message
    match error:
        case QueueFullError():
            return Failure(
                status=429,
                message=message,
                type="rate_limit_error",
                code="queue_full",
                headers=_retry_after(error.retry_after_s),
            )
        case DeadlineError():
            return Failure(
                status=503,
                message=message,
                type="server_error",
                param=error.param,
                code="deadline_exceeded",
                headers=_retry_after(error.retry_after_s),
            )
        case ContextLengthError():
            return Failure(
                status=400, message=message, param=error.param, code="context_length_exceeded"
            )
        case RequestError():
            return Failure(status=400, message=message, param=error.param, code="invalid_value")
        case ModelNotFound():
            return Failure(status=404, message=message, param="model", code="model_not_found")
        case EngineError():
            return Failure(
                status=503,
                message=message,
                type="server_error",
                code="engine_unavailable",
                headers={"retry-after": "2"},
            )
    return Failure(status=500, message=message, type="server_error", code="server_error")


def _retry_after(seconds: float) -> dict[str, str]:
    return {"retry-after": str(max(1, math.ceil(seconds)))}


def _sentence(hint: str) -> str:
    return hint[:1].upper() + hint[1:]

"""Turns what went wrong into a reply: status, headers and a body in the shape of the API asked."""

import math
from dataclasses import dataclass, field

import msgspec

from tokenworks.errors import (
    AccessError,
    BackendError,
    BudgetError,
    ConfigError,
    ContextLengthError,
    DeadlineError,
    EngineError,
    LabelError,
    ModelNotFound,
    QueueFullError,
    RateError,
    RequestError,
    TokenworksError,
    UnknownCaller,
)
from tokenworks.gateway.upstream.failures import KeyRefused
from tokenworks.store.dialects import StoreError

ANTHROPIC_PATH = "/v1/messages"

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed request as the caller sees it."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, path: str = "") -> bytes:
        """JSON, in Anthropic's shape for a path of that API, else in OpenAI's."""
        if path.startswith(ANTHROPIC_PATH):
            return msgspec.json.encode(self.as_anthropic())
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

    def as_anthropic(self) -> dict[str, object]:
        kind = _ANTHROPIC_TYPES.get(self.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": self.message}}


class HttpRefusal(Exception):  # noqa: N818  (reads as the fact it states)
    """The request is refused at the door, before anybody looks at what it asks for."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def refuse(status: int, code: str, message: str, **headers: str) -> HttpRefusal:
    """An HttpRefusal to raise; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpRefusal(Failure(status=status, code=code, message=message, headers=named))


@dataclass(frozen=True, slots=True)
class _Shape:
    status: int
    type: str
    code: str
    retry_after_s: float | None = None  # where the error itself does not say


# An error has the shape of the first of its kinds here: the narrower ones stand before the wider.
_SHAPES: dict[type[TokenworksError], _Shape] = {
    QueueFullError: _Shape(429, "rate_limit_error", "queue_full"),
    RateError: _Shape(429, "rate_limit_error", "rate_limited"),
    BudgetError: _Shape(429, "insufficient_quota", "insufficient_quota"),
    DeadlineError: _Shape(503, "server_error", "deadline_exceeded"),
    LabelError: _Shape(403, "permission_error", "label_not_allowed"),
    ContextLengthError: _Shape(400, "invalid_request_error", "context_length_exceeded"),
    RequestError: _Shape(400, "invalid_request_error", "invalid_value"),
    UnknownCaller: _Shape(401, "invalid_request_error", "invalid_api_key"),
    AccessError: _Shape(403, "permission_error", "not_allowed"),
    ModelNotFound: _Shape(404, "invalid_request_error", "model_not_found"),
    KeyRefused: _Shape(502, "server_error", "backend_key_refused"),
    BackendError: _Shape(503, "server_error", "backend_unavailable", 2.0),
    ConfigError: _Shape(400, "invalid_request_error", "invalid_setting"),
    EngineError: _Shape(503, "server_error", "engine_unavailable", 2.0),
    StoreError: _Shape(503, "server_error", "books_unavailable", 5.0),
}
_FOR_GOOD = _Shape(502, "server_error", "backend_failed")
_OTHER = _Shape(500, "server_error", "server_error")


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
    shape = next((shape for kind, shape in _SHAPES.items() if isinstance(error, kind)), _OTHER)
    if shape is _SHAPES[BackendError] and not getattr(error, "retryable", True):
        shape = _FOR_GOOD
    param = "model" if isinstance(error, ModelNotFound) else getattr(error, "param", None)
    return Failure(
        status=shape.status,
        message=_message_of(error),
        type=shape.type,
        param=param,
        code=shape.code,
        headers=_headers_of(error, shape),
    )


def _message_of(error: TokenworksError) -> str:
    if isinstance(error, StoreError):  # it names files of this machine, or a server
        return "The books of this server cannot be used just now"
    return f"{error.message}. {_sentence(error.hint)}" if error.hint else error.message


def _headers_of(error: TokenworksError, shape: _Shape) -> dict[str, str]:
    if shape.status == 401:
        return {"www-authenticate": "Bearer"}
    if shape is _FOR_GOOD:
        return {}
    seconds = getattr(error, "retry_after_s", None)
    return _retry_after(shape.retry_after_s if seconds is None else seconds)


def _retry_after(seconds: float | None) -> dict[str, str]:
    """None: nobody knows when."""
    return {} if seconds is None else {"retry-after": str(max(1, math.ceil(seconds)))}


def _sentence(hint: str) -> str:
    return hint[:1].upper() + hint[1:]

"""What a backend's refusal means: the request's fault, its own, or only a bad moment. Pure."""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from tokenworks.errors import (
    BackendError,
    ContextLengthError,
    RequestError,
    TokenworksError,
)

LONGEST_MESSAGE: Final = 300
LONGEST_WAIT_S: Final = 86400.0
_REQUEST_AT_FAULT: Final = frozenset({400, 413, 422})
_KEY_REFUSED: Final = frozenset({401, 403})
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


class RateLimited(BackendError):  # noqa: N818  (reads as the fact it states)
    """The backend is well, and has had enough requests for now."""


class KeyRefused(BackendError):  # noqa: N818  (reads as the fact it states)
    """The backend does not take our key: no request can succeed there until somebody mends that."""


def failure_of(
    name: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    unix_time: float,
    secret: str = "",
) -> TokenworksError:
    """The error to raise for a reply that is no answer.

    What the backend says is shown only where the request is at fault; `secret` is taken out of it.
    """
    if status in _REQUEST_AT_FAULT:
        said, code = _said(body)
        text = cleaned(said, secret) or f"status {status}"
        kind = ContextLengthError if code == "context_length_exceeded" else RequestError
        return kind(f"The backend {name!r} refuses this request: {text}")
    if status in _KEY_REFUSED:
        return KeyRefused(
            f"The backend {name!r} refuses this gateway's own key, not yours (status {status})",
            retryable=False,
            hint="whoever runs this gateway must give it a valid key for that backend",
        )
    wait_s = retry_after_of(headers, unix_time)
    if status == 429:
        return RateLimited(f"The backend {name!r} takes no more for now", retry_after_s=wait_s)
    if 300 <= status < 400:
        return BackendError(
            f"The backend {name!r} sends requests elsewhere (status {status}), and that is never "
            "followed",
            hint="give its final url",
        )
    return BackendError(f"The backend {name!r} answered with status {status}", retry_after_s=wait_s)


def retry_after_of(headers: Mapping[str, str], unix_time: float) -> float | None:
    """Seconds to wait (RFC 9110, 10.2.3: a number or a date), at most a day; None if unsaid."""
    exact = _number(headers.get("retry-after-ms", ""))
    if exact is not None:
        return min(exact / 1000, LONGEST_WAIT_S)
    text = headers.get("retry-after", "").strip()
    seconds = _number(text)
    if seconds is None and text:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - unix_time
        except (ValueError, OverflowError):
            return None
    return None if seconds is None else min(max(0.0, seconds), LONGEST_WAIT_S)


def cleaned(text: str, secret: str = "") -> str:
    """One short line that drives no terminal and shows no secret."""
    if secret:
        text = text.replace(secret, "***")
    text = _UNPRINTABLE.sub(" ", text[: 4 * LONGEST_MESSAGE]).strip()
    return text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 1]}…"


def said_in(error: object) -> str:
    """The message in an error of any shape that the servers of the field use."""
    if isinstance(error, str):
        return error
    if isinstance(error, list):
        return "; ".join(said_in(one) for one in error[:3])
    if isinstance(error, dict):
        for key in ("message", "msg", "detail", "error"):
            if error.get(key):
                return said_in(error[key])
    return ""


def _said(body: bytes) -> tuple[str, str]:
    """An error body's message and code; empty for what is not JSON: a proxy's page helps nobody."""
    try:
        reply: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    inner = reply.get("error") if isinstance(reply, dict) else None
    code = inner.get("code") if isinstance(inner, dict) else None
    return said_in(reply), code if isinstance(code, str) else ""


def _number(text: str) -> float | None:
    """A number that is not negative and not infinite, in plain digits."""
    return float(text) if re.fullmatch(r"[0-9]{1,15}(?:\.[0-9]{1,9})?", text) else None

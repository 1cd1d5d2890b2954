"""What a refusal means, and what of it is shown."""

import json
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.errors import BackendError, ContextLengthError, RequestError, TokenworksError
from tokenworks.gateway.upstream.failures import (
    LONGEST_MESSAGE,
    LONGEST_WAIT_S,
    KeyRefused,
    RateLimited,
    cleaned,
    failure_of,
    retry_after_of,
)

KEY = "sk-canary-0123456789"
NOW = 1_800_000_000.0


def failure(status: int, body: bytes = b"", **headers: str) -> TokenworksError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return failure_of("there", status, named, body, unix_time=NOW, secret=KEY)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_bad_request_is_the_caller_s_to_mend_and_says_what_the_backend_said(status: int) -> None:
    error = failure(status, b'{"error": {"message": "top_k is unknown"}}')

    assert type(error) is RequestError
    assert "top_k is unknown" in error.message


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "m-1"}},
        {"error": "m-1"},
        {"message": "m-1"},
        {"detail": [{"msg": "m-1"}, {"msg": "m-2"}]},
        {"object": "error", "message": "m-1"},
        {"type": "error", "error": {"type": "invalid_request_error", "message": "m-1"}},
    ],
)
def test_the_shapes_of_errors_in_the_field_are_read(body: object) -> None:
    assert "m-1" in failure(400, json.dumps(body).encode()).message


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"error": 7}']
)
def test_a_body_that_says_nothing_is_not_shown(body: bytes) -> None:
    assert failure(400, body).message == "The backend 'there' refuses this request: status 400"


def test_too_long_a_context_is_told_apart() -> None:
    body = b'{"error": {"message": "too long", "code": "context_length_exceeded"}}'

    assert type(failure(400, body)) is ContextLengthError


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_never_shown_not_even_by_what_the_backend_says(status: int) -> None:
    error = failure(status, json.dumps({"error": {"message": f"bad key {KEY}"}}).encode())

    assert isinstance(error, KeyRefused)
    assert not error.retryable
    assert "refuses this gateway's own key" in error.message
    assert "canary" not in str(error)
    assert "canary" not in str(failure(400, json.dumps({"error": f"key {KEY}"}).encode()))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(status: int) -> None:
    error = failure(status, location="http://169.254.169.254/")

    assert isinstance(error, BackendError)
    assert "never followed" in error.message
    assert "169.254" not in str(error)


@pytest.mark.parametrize("status", [201, 204, 402, 404, 408, 409, 425, 500, 502, 503, 504, 529])
def test_another_backend_may_do_what_this_one_cannot(status: int) -> None:
    error = failure(status, b'{"error": {"message": "internal secret"}}', retry_after="3")

    assert type(error) is BackendError
    assert (error.retryable, error.retry_after_s) == (True, 3)
    assert "secret" not in str(error)


def test_a_rate_limit_says_when_to_come_back_in_every_form() -> None:
    def wait(**headers: str) -> float | None:
        error = failure(429, **headers)
        assert isinstance(error, RateLimited)
        assert error.retryable
        return error.retry_after_s

    assert wait(retry_after="7") == 7
    assert wait(retry_after="1.5") == 1.5
    assert wait(retry_after_ms="250", retry_after="7") == 0.25
    assert wait(retry_after=formatdate(NOW + 90, usegmt=True)) == pytest.approx(90)
    assert wait(retry_after=formatdate(NOW - 90, usegmt=True)) == 0
    assert wait(retry_after="99999999") == LONGEST_WAIT_S
    assert wait() is None


@given(st.text(max_size=40))
def test_any_retry_after_is_a_time_or_nothing(text: str) -> None:
    seconds = retry_after_of({"retry-after": text}, NOW)

    assert seconds is None or 0 <= seconds <= LONGEST_WAIT_S


@given(st.text(max_size=5000))
def test_what_a_backend_says_is_one_short_line_without_control_characters(text: str) -> None:
    shown = cleaned(text + KEY, KEY)

    assert len(shown) <= LONGEST_MESSAGE
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u202e" for c in shown)
    assert "canary" not in shown

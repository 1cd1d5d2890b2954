"""The key that a request was sent with, in either of the headers that clients use."""

from starlette.datastructures import Headers

from tokenworks.errors import UnknownCaller

LONGEST_KEY = 512


def key_of(headers: Headers) -> str:
    """The one key of a request; empty if none was sent.

    Raises UnknownCaller where several different ones were sent: which of them counts would be a
    matter of who reads first. A scheme other than Bearer is no key.
    """
    given = {key for value in headers.getlist("authorization") if (key := _bearer(value))}
    given |= {value.strip() for value in headers.getlist("x-api-key") if value.strip()}
    if len(given) > 1:
        raise UnknownCaller(
            "The request has several different keys",
            hint="send one, as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'",
        )
    key = given.pop() if given else ""
    if len(key) > LONGEST_KEY:
        raise UnknownCaller(f"A key has at most {LONGEST_KEY} characters")
    return key


def _bearer(value: str) -> str:
    scheme, _, key = value.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""

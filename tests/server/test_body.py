"""The bounded JSON reader, without a server."""

import asyncio
import json
from threading import get_ident

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from tokenworks.errors import RequestError
from tokenworks.server import parameters
from tokenworks.server.body import deeper_than, parse_object, read_object
from tokenworks.server.settings import ServerSettings

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\[]{}é', max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('a"\\[{', max_size=4), inner)
    ),
    max_leaves=20,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((depth(inner) for inner in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth(inner) for inner in value), default=0)
    return 0


@given(value=values, limit=st.integers(1, 8))
def test_depth_is_what_it_is_whatever_strings_hold(value: object, limit: int) -> None:
    assert deeper_than(json.dumps(value).encode(), limit) == (depth(value) > limit)


@given(value=st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_an_object_is_read_as_the_standard_library_reads_it(value: dict[str, object]) -> None:
    assert parse_object(json.dumps(value).encode(), 100) == value


@given(body=st.binary(max_size=60) | st.text('[]{}":,\\ua1', max_size=60).map(str.encode))
def test_any_bytes_are_an_object_or_a_request_error(body: bytes) -> None:
    try:
        parsed = parse_object(body, 32)
    except RequestError:
        return

    assert isinstance(parsed, dict)


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(RequestError, match="too many digits"):
        parse_object(b'{"seed": ' + b"9" * 5000 + b"}", 32)


def test_brackets_by_the_megabyte_are_refused_without_recursion() -> None:
    for body in (b"[" * 4_000_000, b'{"a":' * 800_000, b"[]" * 2_000_000):
        with pytest.raises(RequestError):
            parse_object(body, 32)


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_large_body_is_checked_off_the_event_loop(size: int) -> None:
    body = json.dumps({"text": "x" * size}).encode()

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def main() -> tuple[int, int]:
        request = Request({"type": "http", "headers": []}, receive)
        settings = ServerSettings()
        return await read_object(request, settings, lambda _: get_ident()), get_ident()

    checked_in, loop_in = asyncio.run(main())

    assert (checked_in == loop_in) == (size < 1000)


def test_a_name_of_any_length_costs_no_time_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def close(name: str, known: set[str], n: int) -> list[str]:
        compared.append(len(name))
        return []

    monkeypatch.setattr(parameters, "get_close_matches", close)

    with pytest.raises(RequestError, match="Unknown parameter"):
        parameters.read_parameters(parameters.ChatParameters, {"x" * 1_000_000: 1})
    assert compared == [100]

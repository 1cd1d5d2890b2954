import pytest
from starlette.datastructures import Headers

from tokenworks.errors import UnknownCaller
from tokenworks.server.credentials import LONGEST_KEY, key_of


def headers(*pairs: tuple[str, str]) -> Headers:
    return Headers(raw=[(name.encode(), value.encode()) for name, value in pairs])


@pytest.mark.parametrize(
    "pairs",
    [
        [("authorization", "Bearer k1")],
        [("authorization", "bearer   k1 ")],
        [("x-api-key", "k1")],
        [("x-api-key", " k1"), ("authorization", "Bearer k1")],
        [("x-api-key", "k1"), ("authorization", "Basic dXNlcjpwYXNz")],
    ],
)
def test_a_key_is_found_in_either_header(pairs: list[tuple[str, str]]) -> None:
    assert key_of(headers(*pairs)) == "k1"


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic a2V5", "k1"])
def test_what_is_no_bearer_is_no_key(value: str) -> None:
    assert key_of(headers(("authorization", value))) == ""


@pytest.mark.parametrize(
    "pairs",
    [
        [("authorization", "Bearer k1"), ("x-api-key", "k2")],
        [("authorization", "Bearer k1"), ("authorization", "Bearer k2")],
        [("x-api-key", "k1"), ("x-api-key", "k2")],
    ],
)
def test_two_keys_are_not_confused_with_each_other(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(UnknownCaller, match="several different keys") as refused:
        key_of(headers(*pairs))
    assert "k1" not in str(refused.value)
    assert "k2" not in str(refused.value)


def test_a_key_that_does_not_end_is_none() -> None:
    with pytest.raises(UnknownCaller):
        key_of(headers(("x-api-key", "k" * (LONGEST_KEY + 1))))

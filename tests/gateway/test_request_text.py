"""What a backend would see of a request is found whole, and changed whole."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.gateway.backend import Completion
from tokenworks.gateway.request_text import changed, is_readable, texts_of

WORD = st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=1, max_size=12)
JSON = st.recursive(
    WORD | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=6,
)
PART = st.builds(lambda text: {"type": "text", "text": text}, WORD)
CALL = st.builds(
    lambda given: {
        "id": "c",
        "type": "function",
        "function": {"name": "f", "arguments": msgspec.json.encode(given).decode()},
    },
    st.dictionaries(WORD, JSON, max_size=3),
)
MESSAGE = st.builds(
    lambda content, calls: {"role": "user", "content": content, "tool_calls": calls},
    st.none() | WORD | st.lists(PART, max_size=3),
    st.lists(CALL, max_size=2),
)
REQUEST = st.builds(
    lambda messages, begun, further, options, stop: Completion(
        request_id="r",
        model="m",
        messages=messages,
        begun=begun,
        further=further,
        template_options=options,
        stop=tuple(stop),
    ),
    st.lists(MESSAGE, max_size=3),
    st.just("") | WORD,
    st.dictionaries(WORD, JSON, max_size=2),
    st.dictionaries(WORD, WORD, max_size=2),
    st.lists(WORD, max_size=2),
)


def leaves(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    if isinstance(value, list | tuple):
        return [leaf for inner in value for leaf in leaves(inner)]
    return []


@given(REQUEST)
def test_no_text_is_missed(request: Completion) -> None:
    found = list(texts_of(request))

    for message in request.messages or ():
        content = message["content"]
        said = [part["text"] for part in content] if isinstance(content, list) else leaves(content)
        assert all(text in found for text in said)
        assert all(call["function"]["arguments"] in found for call in message["tool_calls"])
    for leaf in leaves([request.further, request.template_options, request.stop]):
        assert leaf in found
    assert not request.begun or request.begun in found


@given(REQUEST)
def test_every_text_is_changed_and_nothing_else(request: Completion) -> None:
    new = changed(request, lambda text: "*" * len(text))

    for message in new.messages or ():
        content = message["content"]
        said = [part["text"] for part in content] if isinstance(content, list) else leaves(content)
        assert all(set(text) <= {"*"} for text in said)
        for call in message["tool_calls"]:
            given_ = msgspec.json.decode(call["function"]["arguments"])
            assert all(set(leaf) <= {"*"} for leaf in leaves(given_))
            assert (call["id"], call["function"]["name"]) == ("c", "f")
    assert all(set(leaf) <= {"*"} for leaf in leaves([new.further, new.template_options, new.stop]))
    assert set(new.begun) <= {"*"}
    assert [message["role"] for message in new.messages or ()] == ["user"] * len(
        request.messages or ()
    )
    assert changed(request, lambda text: text).further == request.further


def test_arguments_that_are_no_json_are_changed_as_text() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": '}}
    request = Completion(
        request_id="r",
        model="m",
        messages=[{"role": "assistant", "content": None, "tool_calls": [call]}],
    )

    new = changed(request, str.upper)

    assert new.messages is not None
    assert new.messages[0]["tool_calls"][0]["function"]["arguments"] == '{"A": '
    assert call["function"] == {"name": "f", "arguments": '{"a": '}  # the given one stays


def test_escapes_in_arguments_hide_nothing() -> None:
    arguments = '{"id": "\\u0031\\u0032\\u0033"}'
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}

    assert "123" in list(texts_of(Completion(request_id="r", model="m", messages=[message])))


def test_images_and_bare_tokens_cannot_be_read() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://a/b.png"}}
    text = {"type": "text", "text": "look"}

    def asked(*parts: dict[str, Any]) -> Completion:
        return Completion(
            request_id="r", model="m", messages=[{"role": "user", "content": list(parts)}]
        )

    assert is_readable(asked(text))
    assert not is_readable(asked(text, image))
    assert not is_readable(Completion(request_id="r", model="m", prompt=[1, 2]))
    assert is_readable(Completion(request_id="r", model="m", prompt="x"))


def test_an_id_that_the_client_gave_is_looked_through_and_one_of_ours_is_not() -> None:
    """It goes to backends in a header. Ours is random: what looks like a number there is none."""

    def texts(identity: str) -> list[str]:
        return list(texts_of(Completion(request_id=identity, model="m", prompt="x")))

    assert texts("order-13812345678") == ["order-13812345678", "x"]
    assert texts("13812345678") == ["13812345678", "x"]
    assert texts("13812345678abcde") == ["x"]
    assert texts("6592782195058312") == ["x"]


def test_where_an_image_is_found_is_text_and_what_it_shows_is_not() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": url}}
        for url in ("https://a.example/p?of=13812345678", "data:image/png;base64,AAAA")
    ]
    request = Completion(request_id="", model="m", messages=[{"role": "user", "content": parts}])

    assert list(texts_of(request)) == ["https://a.example/p?of=13812345678"]

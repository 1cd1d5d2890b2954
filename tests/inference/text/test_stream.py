"""Streamed text: never inside a character, never beyond a stop string, never later than needed."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenworks.errors import RequestError
from tokenworks.inference.models.gguf_writer import write_gguf
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.open import open_codec
from tokenworks.inference.text.stream import TextStream
from tokenworks.inference.text.tiny_vocabulary import tiny_vocabulary

PROPERTY = settings(max_examples=200, deadline=None)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> TextCodec:
    path: Path = tmp_path_factory.mktemp("stream") / "v.gguf"
    write_gguf(path, tiny_vocabulary(), [])
    return open_codec(path)


any_tokens = st.lists(st.integers(0, 282), max_size=40)
few_letters = st.text(alphabet="ab日\n", max_size=24)
stops = st.lists(st.text(alphabet="ab日\n", min_size=1, max_size=5), max_size=3)


def run(codec: TextCodec, tokens: list[int], stop: list[str]) -> tuple[list[str], TextStream]:
    stream = TextStream(codec, stop)
    pieces = [stream.feed(token) for token in tokens]
    return [*pieces, stream.flush()], stream


def cut(text: str, stop: list[str]) -> tuple[str, bool]:
    """The text before the stop string that is complete first, found one character at a time."""
    for end in range(1, len(text) + 1):
        found = [len(word) for word in stop if text[:end].endswith(word)]
        if found:
            return text[: end - max(found)], True
    return text, False


@settings(max_examples=400, deadline=None)
@given(text=few_letters, stop=stops, protected=st.integers(0, 12))
@example(text="aab", stop=["a", "aab"], protected=1)  # what is protected is held back meanwhile
def test_no_stop_string_ends_within_the_protected_tokens(
    codec: TextCodec, text: str, stop: list[str], protected: int
) -> None:
    tokens = codec.encode(text)
    stream = TextStream(codec, stop, protected)
    pieces = [stream.feed(token) for token in tokens] + [stream.flush()]
    beginning = codec.decode(tokens[:protected]).rstrip("\ufffd")  # a part of a character
    cuts = [
        end - max(len(word) for word in stop if text[:end].endswith(word))
        for end in range(len(beginning) + 1, len(text) + 1)
        if any(text[:end].endswith(word) for word in stop)
    ]

    assert "".join(pieces) == (text[: cuts[0]] if cuts else text)
    assert stream.stopped == bool(cuts)


@PROPERTY
@given(tokens=any_tokens, stop=stops)
def test_pieces_of_any_tokens_add_up_to_their_text(
    codec: TextCodec, tokens: list[int], stop: list[str]
) -> None:
    pieces, stream = run(codec, tokens, stop)

    assert ("".join(pieces), stream.stopped) == cut(codec.decode(tokens), stop)


@PROPERTY
@given(text=few_letters, stop=stops)
def test_stop_strings_cut_the_same_whatever_the_tokens(
    codec: TextCodec, text: str, stop: list[str]
) -> None:
    whole, _ = run(codec, codec.encode(text), stop)
    by_bytes, _ = run(codec, [token for letter in text for token in codec.encode(letter)], stop)

    assert "".join(whole) == "".join(by_bytes) == cut(text, stop)[0]


@PROPERTY
@given(text=few_letters, stop=stops)
def test_no_more_is_held_back_than_may_begin_a_stop_string(
    codec: TextCodec, text: str, stop: list[str]
) -> None:
    stream, shown = TextStream(codec, stop), ""
    for index, letter in enumerate(text):
        for token in codec.encode(letter):
            shown += stream.feed(token)
        if stream.stopped:
            break
        held = text[len(shown) : index + 1]
        assert not held or any(word.startswith(held) for word in stop)


def test_a_character_waits_for_its_last_byte(codec: TextCodec) -> None:
    stream = TextStream(codec, ())

    pieces = [stream.feed(token) for token in codec.encode("é🙂")]

    assert pieces == ["", "é", "", "", "", "🙂"]


def test_text_that_cannot_become_a_stop_string_is_shown_at_once(codec: TextCodec) -> None:
    stream = TextStream(codec, ["aab"])

    assert [stream.feed(token) for token in codec.encode("aaac")] == ["", "", "a", "aac"]


def test_an_unfinished_character_ends_as_a_replacement(codec: TextCodec) -> None:
    stream = TextStream(codec, ())
    stream.feed(codec.encode("🙂")[0])

    assert stream.flush() == "\ufffd"


def test_what_was_held_back_is_shown_at_the_end(codec: TextCodec) -> None:
    stream = TextStream(codec, ["abc"])
    for token in codec.encode("ab"):
        stream.feed(token)

    assert (stream.flush(), stream.flush(), stream.stopped) == ("ab", "", False)


def test_nothing_follows_a_stop_string(codec: TextCodec) -> None:
    stream = TextStream(codec, ["b"])
    pieces = [stream.feed(token) for token in codec.encode("abab")]

    assert ("".join(pieces), stream.flush(), stream.stopped) == ("a", "", True)


def test_control_tokens_have_no_text(codec: TextCodec) -> None:
    assert run(codec, [1, 2, *codec.encode("a")], [])[0] == ["", "", "a", ""]


def test_an_empty_stop_string_is_refused(codec: TextCodec) -> None:
    with pytest.raises(RequestError, match="empty") as refusal:
        TextStream(codec, ["a", ""])

    assert refusal.value.param == "stop"

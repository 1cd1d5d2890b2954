"""From tokens to chunks, with the tiny model's tokenizer and no worker."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenworks.gateway.backend import Chunk
from tokenworks.gateway.text import AnswerText
from tokenworks.inference.messages import Alternative, Token
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.open import open_codec


@pytest.fixture(scope="module")
def codec(tiny_model: Path) -> TextCodec:
    return open_codec(tiny_model)


def feed(
    codec: TextCodec, text: str, *, stop: tuple[str, ...] = (), logprobs: bool = False
) -> list[Chunk]:
    """The chunks of an answer whose tokens spell `text` and then reach their limit."""
    answer = AnswerText(codec, stop, prompt_tokens=7)
    chunks = []
    tokens = codec.encode(text)
    for index, token in enumerate(tokens):
        chunk = answer.add(
            Token(
                request_id="r",
                token=token,
                finish_reason="length" if index == len(tokens) - 1 else None,
                logprob=-0.5 if logprobs else None,
                alternatives=(Alternative(token, -0.5),) if logprobs else (),
            )
        )
        if chunk:
            chunks.append(chunk)
        if answer.finished:
            break
    return chunks


@given(
    text=st.text("abthe €é<>", min_size=1, max_size=40), stop=st.sampled_from(["<>", "the", "€"])
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_pieces_add_up_to_the_text_before_the_stop_string(
    codec: TextCodec, text: str, stop: str
) -> None:
    chunks = feed(codec, text, stop=(stop,), logprobs=True)
    last = chunks[-1]

    assert "".join(chunk.text for chunk in chunks) == text.partition(stop)[0]
    assert last.finish_reason == ("stop" if stop in text else "length")
    assert all(chunk.finish_reason is None for chunk in chunks[:-1])
    assert last.usage is not None
    assert last.usage.prompt_tokens == 7
    assert last.usage.completion_tokens == sum(chunk.tokens for chunk in chunks)
    if stop not in text:
        raw = b"".join(token.raw for chunk in chunks for token in chunk.logprobs)
        assert raw.decode() == text


def test_no_chunk_ends_inside_a_character(codec: TextCodec) -> None:
    chunks = feed(codec, "a€b")

    assert [chunk.text for chunk in chunks] == ["a", "€", "b"]
    assert [chunk.tokens for chunk in chunks] == [1, 3, 1]


def test_a_stop_token_is_counted_and_not_shown(codec: TextCodec) -> None:
    answer = AnswerText(codec, (), prompt_tokens=1)
    (first,) = codec.encode("a")
    answer.add(Token(request_id="r", token=first, cached_tokens=16))
    last = answer.add(
        Token(request_id="r", token=codec.stop_tokens[0], finish_reason="stop", logprob=-1.0)
    )

    assert last is not None
    assert (last.text, last.finish_reason, last.logprobs) == ("", "stop", ())
    assert last.usage is not None
    assert (last.usage.completion_tokens, last.usage.cached_tokens) == (2, 16)
    assert answer.generated == [first, codec.stop_tokens[0]]

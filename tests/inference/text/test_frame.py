"""What is put around a text, against what the library puts there."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors
from tokenizers.models import WordLevel

from tokenworks.inference.text.frame import frame

NAMES = ("[A]", "[B]", "[C]")
around = st.lists(st.sampled_from(NAMES), max_size=3)


def library(processor: object) -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({"x": 0, **{n: i for i, n in enumerate(NAMES, 1)}}, "x"))
    tokenizer.post_processor = processor
    return tokenizer


def template(before: list[str], after: list[str]) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=" ".join([*before, "$A", *after]),
        special_tokens=[(name, index) for index, name in enumerate(NAMES, 1)],
    )


def check(processor: object) -> None:
    tokenizer = library(processor)
    written = json.loads(tokenizer.to_str())["post_processor"]
    begin, end = frame(written, 4)

    assert [*begin, 0, *end] == tokenizer.encode("x").ids


@given(before=around, after=around)
def test_a_template_frames_as_in_the_library(before: list[str], after: list[str]) -> None:
    check(template(before, after))


@given(before=around, after=around)
def test_a_processor_beside_others_frames_as_in_the_library(
    before: list[str], after: list[str]
) -> None:
    offsets = processors.ByteLevel()
    check(processors.Sequence([offsets, template(before, after), offsets]))


@pytest.mark.parametrize(
    "processor",
    [
        processors.BertProcessing(("[B]", 2), ("[A]", 1)),
        processors.RobertaProcessing(("[B]", 2), ("[A]", 1)),
        processors.ByteLevel(),
    ],
)
def test_the_fixed_processors_frame_as_in_the_library(processor: object) -> None:
    check(processor)


def test_no_processor_is_no_frame() -> None:
    assert frame(None, 4) == ((), ())

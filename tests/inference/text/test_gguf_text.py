"""Tokenizers of GGUF files: every kind gives the ids of the folder that it was converted from."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.gguf_writer import Writable, write_gguf
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.open import open_codec
from tokenworks.inference.text.pre_tokenizers import WORDS
from tokenworks.inference.text.tiny_vocabulary import tiny_vocabulary
from trained_tokenizers import TOOL, gguf_metadata, save_folder

PROPERTY = settings(max_examples=60, deadline=None)
CONVERTED = ("byte level", "llama", "gemma", "bert", "xlm")
Pair = tuple[TextCodec, TextCodec]


def open_with(folder: Path, metadata: Mapping[str, Writable]) -> TextCodec:
    write_gguf(folder / "v.gguf", metadata, [])
    return open_codec(folder / "v.gguf")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("converted")
    made: dict[str, Pair] = {}
    for family in CONVERTED:
        path = folder / family
        tokenizer = save_folder(path, family).backend_tokenizer
        made[family] = open_with(path, gguf_metadata(tokenizer, family)), open_codec(path)
    return made


pieces = st.sampled_from(
    [
        *("The", " quick", "dog", " ", "  ", "\n", "\t", "1234", "it's", "日本語", "é", "e\u0301"),
        *("🙂", "<0x41>", "##s", "[CLS]", "<s>", "<unk>", TOOL, "<|end|>", "\u0000", "\u00a0"),
    ]
)
texts = st.lists(st.one_of(pieces, st.text(max_size=4)), max_size=12).map("".join)


@pytest.mark.parametrize("family", CONVERTED)
@PROPERTY
@given(text=texts)
def test_a_converted_file_is_as_good_as_the_folder(
    pairs: dict[str, Pair], family: str, text: str
) -> None:
    file, folder = pairs[family]
    tokens = folder.encode(text, special=True)

    assert file.document(text) == folder.document(text)
    assert file.encode(text, special=True) == tokens
    assert file.decode(tokens) == folder.decode(tokens)
    assert file.vocabulary_size == folder.vocabulary_size


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        ("smollm", "in 1234's", ["in", " ", "1", "2", "3", "4", "'s"]),
        ("starcoder", "a12", ["a", "1", "2"]),
        ("gpt-2", "in 1234's", ["in", " 1234", "'s"]),
        ("llama-bpe", "in 12345'S\n\n", ["in", " ", "123", "45", "'S", "\n\n"]),
        ("default", "in 12345?! a", ["in", " ", "123", "45", "?!", " a"]),
        ("falcon", "x`y 1234", ["x", "`", "y", " ", "123", "4"]),
        ("qwen2", "It's 12\n\n x", ["It", "'s", " ", "1", "2", "\n\n", " x"]),
        ("qwen35", "ne\u0301e x", ["ne\u0301e", " x"]),
        ("tekken", "camelCase HTTPServer's 12", [
            "camel", "Case", " HTTPServer", "'s", " ", "1", "2",
        ]),
        ("gpt-4o", "camelCase's 1234", ["camel", "Case's", " ", "123", "4"]),
        ("deepseek-coder", "x = y, 12\n", ["x", " =", " y", ",", " ", "1", "2", "\n"]),
        ("deepseek-v3", "x==_a 日本1234", ["x", "==_", "a", " ", "日本", "123", "4"]),
    ],
)  # fmt: skip
def test_words_are_cut_as_the_model_was_trained(pre: str, text: str, pieces: list[str]) -> None:
    cut = WORDS[pre].pre_tokenizer().pre_tokenize_str(text)

    assert [text[start:end] for _, (start, end) in cut] == pieces


@pytest.mark.parametrize("pre", WORDS)
def test_every_way_of_cutting_keeps_the_text(tmp_path: Path, pre: str) -> None:
    text = "It's 12345 日本語 ünïcode…\n\n  x_y `code` <a|b> 🙂\t"
    codec = open_with(tmp_path, tiny_vocabulary(pre))

    assert codec.decode(codec.encode(text)) == text


def test_qwen_composes_characters_as_in_transformers(tmp_path: Path) -> None:
    codec = open_with(tmp_path, tiny_vocabulary("qwen2"))

    assert codec.decode(codec.encode("e\u0301")) == "\u00e9"


@pytest.mark.parametrize(
    ("pre", "begins"), [("llama-bpe", True), ("tekken", True), ("qwen2", False)]
)
def test_a_file_that_does_not_say_begins_a_text_as_its_kind_does(
    tmp_path: Path, pre: str, begins: bool
) -> None:
    metadata = tiny_vocabulary(pre)
    del metadata["tokenizer.ggml.add_bos_token"]

    assert (open_with(tmp_path, metadata).prompt("")[:1] == [1]) is begins


def test_padding_and_unused_tokens_have_no_text_and_come_from_none(tmp_path: Path) -> None:
    metadata = tiny_vocabulary()
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list)
    assert isinstance(kinds, np.ndarray)
    metadata["tokenizer.ggml.tokens"] = [*tokens, "[PAD283]", ""]
    metadata["tokenizer.ggml.token_type"] = np.append(kinds, [5, 5]).astype(np.int32)
    codec = open_with(tmp_path, metadata)

    assert codec.decode([283, 284, 285]) == ""
    assert not {283, 284} & set(codec.encode("[PAD283]"))


def test_an_unknown_token_that_the_file_calls_normal_shows_nothing(tmp_path: Path) -> None:
    tokenizer = save_folder(tmp_path, "bert").backend_tokenizer
    metadata = gguf_metadata(tokenizer, "bert")
    kinds = metadata["tokenizer.ggml.token_type"]
    assert isinstance(kinds, np.ndarray)
    kinds[1] = 1
    codec = open_with(tmp_path, metadata)

    assert codec.encode("\u1234") == [1]
    assert codec.decode([1]) == ""


def test_accents_and_case_stay_where_the_file_says_so(tmp_path: Path) -> None:
    metadata = gguf_metadata(save_folder(tmp_path, "bert").backend_tokenizer, "bert")
    lower = open_with(tmp_path, metadata)
    kept = open_with(tmp_path, {**metadata, "tokenizer.ggml.normalizer.lowercase": False})

    assert lower.encode("DOG") == lower.encode("dog")
    assert kept.encode("DOG") != kept.encode("dog") == lower.encode("dog")


LLAMA = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": ["<unk>", "a", "b"],
    "tokenizer.ggml.token_type": np.array([2, 1, 1], np.int32),
    "tokenizer.ggml.scores": np.zeros(3, np.float32),
}
BERT = {"tokenizer.ggml.model": "bert", "tokenizer.ggml.token_type": np.ones(3, np.int32)}
UNIGRAM = {"tokenizer.ggml.model": "t5"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tokenizer.ggml.model": "rwkv"}, "'rwkv' is not supported"),
        ({"tokenizer.ggml.pre": "poro-chat"}, "'poro-chat' is not supported"),
        ({"tokenizer.ggml.merges": ["a"]}, "'a' is not a pair"),
        ({"tokenizer.ggml.merges": ["no such"]}, "bad tokenizer"),
        ({"tokenizer.ggml.tokens": ["a"]}, "1 tokens but 283 token types"),
        ({"tokenizer.ggml.token_type": "x"}, "missing or no array"),
        (
            {"tokenizer.ggml.token_type": np.full(283, np.nan, np.float32)},
            "is not whole numbers",
        ),
        ({"tokenizer.ggml.eos_token_id": 283}, "is 283, not one of 283 tokens"),
        ({"tokenizer.chat_template": "{% for %}"}, "chat template is malformed"),
        ({"tokenizer.chat_template": "{{ " + "(" * 5000 + "1"}, "chat template is malformed"),
        ({"tokenizer.chat_template": "{{ " + "9" * 5000 + " }}"}, "chat template is malformed"),
        (
            {"tokenizer.chat_template": "{% for m in messages %}" * 25 + "{% endfor %}" * 25},
            "chat template is malformed",
        ),
        ({**LLAMA, "tokenizer.ggml.scores": np.zeros(2, np.float32)}, "3 tokens but 2 scores"),
        ({**LLAMA, "tokenizer.ggml.scores": "x"}, "missing or no array"),
        ({**LLAMA, "tokenizer.ggml.tokens": ["<unk>", "a", "b" * 300]}, "300 characters"),
        ({**LLAMA, **BERT}, "without an unknown token"),
        (
            {**LLAMA, **UNIGRAM, "tokenizer.ggml.precompiled_charsmap": np.ones(9, np.uint8)},
            "bad tokenizer",
        ),
        (
            {**LLAMA, "tokenizer.ggml.precompiled_charsmap": np.ones(9, np.float32)},
            "precompiled_charsmap' is not bytes",
        ),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, changes: Mapping[str, Writable], problem: str
) -> None:
    with pytest.raises(ModelFileError, match=problem) as refusal:
        open_with(tmp_path, {**tiny_vocabulary(), **changes})

    assert "v.gguf" in refusal.value.message

"""Model folders that are broken or hostile end in one error that names the file."""

import base64
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenworks.errors import ModelFileError, RequestError
from tokenworks.inference.text.files import MAX_BYTES
from tokenworks.inference.text.open import open_codec
from tokenworks.inference.text.text_steps import check_steps
from tokenworks.inference.text.vocabulary import MAX_TOKENS
from trained_tokenizers import save_folder

PROPERTY = settings(max_examples=150, deadline=None)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tokenizer.json that opens."""
    folder = tmp_path_factory.mktemp("good")
    save_folder(folder, "byte level")
    content: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text())
    return content


def write(folder: Path, content: object) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def refused(folder: Path, problem: str, file: str = "tokenizer.json") -> None:
    with pytest.raises(ModelFileError, match=problem) as refusal:
        open_codec(folder)
    assert file in refusal.value.message
    assert len(refusal.value.message) < 1000


def replace(pattern: str, content: str, kind: str = "String") -> dict[str, object]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def sequence(*steps: object) -> dict[str, object]:
    return {"type": "Sequence", "normalizers": list(steps)}


def charsmap(replacement: bytes) -> str:
    return base64.b64encode(b"\4\0\0\0" + bytes(4) + replacement + b"\0").decode()


ENTRY = {"id": 400, "content": "x", "special": True}
TEMPLATE = {"type": "TemplateProcessing", "single": [], "special_tokens": {}}
FIELDS = [
    ("model", {"vocab": 5}, "malformed: .*vocab"),
    ("model", {"type": "Diffusion", "vocab": {}}, "'Diffusion' is not supported"),
    ("model", {"type": "Unigram", "vocab": {"a": 1}}, "does not fit the model"),
    ("model", {"type": "BPE", "vocab": [["a", 1.0]]}, "does not fit the model"),
    ("model", {"type": "BPE", "vocab": {"a": 10**9}}, "id is not one of"),
    ("model", {"type": "BPE", "vocab": {"a": -1}}, "id is not one of"),
    ("model", {"type": "BPE", "vocab": {"a": 1}, "merges": ["a"]}, "'a' is not a pair"),
    ("model", {"type": "BPE", "vocab": {"a": 1}, "merges": ["a b"]}, "no good tokenizer"),
    ("model", {"type": "Unigram", "vocab": [["a", 1.0]], "unk_id": 7}, "token 7 is none of 1"),
    ("model", {"type": "WordPiece", "vocab": {"a": 1}}, "no unknown token"),
    (
        "model",
        {"type": "WordPiece", "vocab": {"a": 0, "u": 1}, "unk_token": "u",
         "continuing_subword_prefix": "@@"},
        "with '@@', not with ##",
    ),
    ("added_tokens", [{**ENTRY, "id": MAX_TOKENS}], "beyond"),
    ("added_tokens", [{**ENTRY, "id": -5}], "beyond|id"),
    ("added_tokens", [{"id": "x"}], "malformed"),
    ("normalizer", {"type": "Nothing"}, "no good tokenizer"),
    ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated",
                       "invert": False}, "no good tokenizer"),
    ("normalizer", sequence(*[replace("a", "aa")] * 9), "grow without end"),
    ("normalizer", sequence(*[replace("x*", "y", "Regex")] * 9), "grow without end"),
    ("normalizer", sequence(*[{"type": "ByteLevel"}] * 9), "grow without end"),
    ("normalizer", sequence(*[{"type": "NFKD"}] * 65), "grow without end"),
    ("normalizer", sequence(*[sequence(replace("a", "a" * 20))] * 2), "grow without end"),
    ("normalizer", {"type": "Prepend", "prepend": "x" * 10_000}, "grow without end"),
    (
        "normalizer",
        sequence({"type": "Precompiled", "precompiled_charsmap": charsmap(b"x" * 500)}),
        "grow without end",
    ),
    ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "!"}, "no good tokenizer"),
    ("decoder", {"type": "CTC"}, "decoder .*CTC.* is not supported"),
    ("post_processor", {"type": "BertProcessing"}, "post-processor is malformed"),
    ("post_processor", {**TEMPLATE, "single": [{"SpecialToken": {"id": "?"}}]}, "malformed"),
    ("post_processor", {**TEMPLATE, "single": 5}, "post-processor is malformed"),
    (
        "post_processor",
        {**TEMPLATE, "single": [{"SpecialToken": {"id": "x"}}], "special_tokens": {
            "x": {"ids": [10**6]}}},
        "names token 1000000",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "problem"), FIELDS)
def test_a_field_that_does_not_fit_is_refused(
    tmp_path: Path, good: dict[str, Any], field: str, value: object, problem: str
) -> None:
    refused(write(tmp_path, {**good, field: value}), problem)


def raw(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (raw(b""), "malformed"),
        (raw(b"[]"), "malformed"),
        (raw(b'{"model": '), "malformed"),
        (raw(b"\xff\xfe{}"), "malformed"),
        (raw(b'{"model":' + b"[" * 100_000), "malformed"),
        (raw(b'{"model":{"vocab":{}},"normalizer":' + b"[" * 100_000 + b"}"), "malformed"),
        (raw(b'{"model":{"vocab":{"\\ud800":1}}}'), "malformed"),
        (lambda path: path.mkdir(), "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), MAX_BYTES + 1), "bytes"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused(
    tmp_path: Path, make: Callable[[Path], None], problem: str
) -> None:
    make(tmp_path / "tokenizer.json")

    refused(tmp_path, problem)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("tokenizer_config.json", "[1]", "malformed"),
        ("tokenizer_config.json", '{"bos_token": 5}', "malformed: .*bos_token"),
        (
            "tokenizer_config.json",
            '{"added_tokens_decoder": {"x": {"content": "y"}}}',
            "'x', no id",
        ),
        (
            "tokenizer_config.json",
            '{"added_tokens_decoder": {"%s": {"content": "y"}}}' % ("9" * 5000),
            "no id",
        ),
        ("generation_config.json", '{"eos_token_id": "x"}', "malformed: .*eos_token_id"),
        ("special_tokens_map.json", "nonsense", "malformed"),
        ("added_tokens.json", '{"a": "b"}', "malformed"),
    ],
)
def test_settings_that_are_malformed_are_refused_by_name(
    tmp_path: Path, good: dict[str, Any], file: str, content: str, problem: str
) -> None:
    (write(tmp_path, good) / file).write_text(content)

    refused(tmp_path, problem, file)


def test_a_template_that_is_malformed_names_the_folder(
    tmp_path: Path, good: dict[str, Any]
) -> None:
    (write(tmp_path, good) / "chat_template.jinja").write_text("{% for %}")

    refused(tmp_path, "chat template is malformed", tmp_path.name)


def test_an_expression_that_backtracks_for_ever_is_the_requests_error(
    tmp_path: Path, good: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    split = {"type": "Split", "behavior": "Isolated", "invert": False}
    pre = {"type": "Sequence", "pretokenizers": [
        {**split, "pattern": {"Regex": "(a+)+$"}},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ]}  # fmt: skip
    codec = open_codec(write(tmp_path, {**good, "pre_tokenizer": pre}))
    began = time.monotonic()

    for _ in range(2):  # a panic must not leave a lock behind
        with pytest.raises(RequestError, match="cannot take the text"):
            codec.encode("a" * 50 + "b")

    assert time.monotonic() - began < 20
    assert codec.decode(codec.encode("fox")) == "fox"
    assert "retry-limit" in capfd.readouterr().err  # the library reports its own panic


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 500) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["type", "id", "ids", "content", "pattern", "String", "Regex", "normalizers", "single",
         "SpecialToken", "Sequence", "special_tokens", "cls", "sep", "vocab", "merges", "special"]
    ), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@PROPERTY
@given(
    field=st.sampled_from(
        ["model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"]
    ),
    value=json_values,
)
def test_whatever_a_field_holds_it_opens_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, good: dict[str, Any], field: str, value: object
) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        codec = open_codec(write(folder, {**good, field: value}))
        codec.decode(codec.document("The dog"))
    except (ModelFileError, RequestError):
        pass


def test_a_prefix_of_every_text_is_short_whatever_else_there_is() -> None:
    with pytest.raises(ValueError, match="grow without end"):
        check_steps({"type": "Prepend", "prepend": "x" * 10_000})


@pytest.mark.timeout(10)
def test_a_million_empty_steps_are_looked_through_in_no_time() -> None:
    check_steps({"type": "Sequence", "normalizers": [{}] * 1_000_000})

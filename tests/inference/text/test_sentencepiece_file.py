"""SentencePiece's own files: read to the last field, or refused with what is wrong."""

import io
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenworks.errors import ModelFileError
from tokenworks.inference.text.open import open_codec
from tokenworks.inference.text.protobuf import fields
from tokenworks.inference.text.sentencepiece_file import parse_sentencepiece
from trained_tokenizers import BYTES, CORPUS, sentencepiece_vocabulary

PROPERTY = settings(max_examples=100, deadline=None)


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | float | bytes) -> bytes:
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def piece(text: str, score: float = 0.0, kind: int = 1) -> bytes:
    return field(1, field(1, text.encode()) + field(2, score) + field(3, kind))


def model_file(trainer: bytes = field(3, 2), normalizer: bytes = b"") -> bytes:
    """A BPE file of the vocabulary that the folders of other tests have."""
    vocab, scores = sentencepiece_vocabulary()
    kinds = {"<unk>": 2, "<s>": 3, "</s>": 3} | dict.fromkeys(BYTES, 6)
    pieces = [piece(t, score, kinds.get(t, 1)) for t, score in zip(vocab, scores, strict=True)]
    return b"".join(pieces) + field(2, trainer) + field(3, normalizer + field(4, 0))


def test_pieces_flags_and_ids_are_read() -> None:
    data = (
        piece("<unk>", kind=2)
        + piece("▁▁", -1.5, kind=4)
        + field(99, b"later")
        + piece("b", -2.0)
        + field(2, field(3, 1) + field(41, -1) + field(42, 2))
        + field(3, field(2, b"map") + field(3, 0) + field(4, 0))
    )
    file = parse_sentencepiece(data)

    assert file.pieces.texts == ["<unk>", "  ", "b"]
    assert file.pieces.scores == [0.0, -1.5, -2.0]
    assert file.pieces.kinds == [2, 4, 1]
    assert (file.pieces.space_prefix, file.pieces.trims_spaces) == (False, False)
    assert file.pieces.charsmap == b"map"
    assert (file.algorithm, file.bos, file.eos) == (1, None, 2)


def test_what_a_file_does_not_say_has_sentencepieces_defaults() -> None:
    file = parse_sentencepiece(piece("<unk>", kind=2) + piece("a") + piece("b"))

    assert (file.pieces.space_prefix, file.pieces.trims_spaces) == (True, True)
    assert (file.algorithm, file.bos, file.eos) == (1, 1, 2)


def test_a_folder_with_nothing_else_is_enough(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(model_file())
    codec = open_codec(tmp_path)

    assert codec.stop_tokens == (2,)
    assert codec.document("The dog")[0] == 1
    assert codec.decode(codec.encode("The dog: 🙂")) == " The dog: 🙂"
    assert not {1, 2} & set(codec.encode("<s></s>"))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no pieces"),
        (b"\x00", "no pieces|truncated"),
        (b"\x0a\xff\xff\xff\xff\x0f", "truncated"),
        (b"\x0a", "truncated within a number"),
        (b"\xff" * 20, "more than 64 bits"),
        (b"\x0b", "unknown wire type 3"),
        (field(1, 7), "a piece is a number"),
        (field(1, field(1, b"\xff")), "utf-8"),
        (piece("a") + field(2, field(3, 4)), "'char' is not supported"),
        (piece("a") + field(2, field(3, 2) + field(24, 1)), "suffix is not supported"),
        (piece("a") + field(2, field(3, 2) + field(41, 9)), "token 9 of 1"),
        (model_file(normalizer=field(2, b"\xff" * 8)), "no good tokenizer"),
    ],
)
def test_a_malformed_file_is_refused_by_name(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)

    with pytest.raises(ModelFileError, match=problem) as refusal:
        open_codec(tmp_path)

    assert "tokenizer.model" in refusal.value.message


@PROPERTY
@given(data=st.binary(max_size=200))
def test_no_bytes_crash_the_reader_or_take_much_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        list(fields(data))
        parse_sentencepiece(data)
    except ValueError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bpe", {"byte_fallback": True, "normalization_rule_name": "identity",
                 "remove_extra_whitespaces": False}),
        ("bpe", {"byte_fallback": True, "normalization_rule_name": "identity",
                 "remove_extra_whitespaces": False, "add_dummy_prefix": False}),
        ("bpe", {"normalization_rule_name": "nmt_nfkc"}),
        ("unigram", {"normalization_rule_name": "nmt_nfkc"}),
        ("unigram", {"normalization_rule_name": "identity", "byte_fallback": True}),
    ],
)  # fmt: skip
def test_a_file_gives_the_ids_that_sentencepiece_gives(
    tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    size = 500 if options.get("byte_fallback") else 200
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in CORPUS for line in text.split("\n")),
        model_writer=written, model_type=kind, vocab_size=size, character_coverage=0.98,
        hard_vocab_limit=False, minloglevel=2, **options,
    )  # fmt: skip
    (tmp_path / "tokenizer.model").write_bytes(written.getvalue())
    codec = open_codec(tmp_path)
    reference = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())

    @PROPERTY
    @given(text=st.lists(st.one_of(st.sampled_from(
        ["The", " quick", "dog", " ", "  ", "1234", "日本語", "é", "🙂", "ﬁ", "<s>", "①", "\t"]
    ), st.text(max_size=4))).map("".join))  # fmt: skip
    def same(text: str) -> None:
        text = text.replace("▁", "").replace("\0", "")
        tokens = reference.encode(text)

        assert codec.encode(text) == tokens
        known = [token for token in tokens if token != reference.unk_id()]
        assert codec.decode(tokens).lstrip(" ") == reference.decode(known).lstrip(" ")

    same()

"""Model folders: every family of tokenizers gives the ids and the text that transformers gives."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from tokenworks.errors import ModelFileError
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.open import open_codec
from trained_tokenizers import FAMILIES, TOOL, TURNS, save_folder

PROPERTY = settings(max_examples=60, deadline=None)
CONTROL = ("<s>", "</s>", "<unk>", "[UNK]", "[CLS]", "[SEP]", "[END]", *TURNS)
pieces = st.sampled_from(
    [
        *("The", " quick", "dog", " ", "  ", "\n", "\t", "1234", "it's", "日本語", "é", "e\u0301"),
        *("🙂", "👩‍👩‍👧", "<0x41>", "▁", "##s", "[", "<", TOOL, "\u0000", "\u00a0", "ﬁ"),
    ]
)
prose = st.lists(st.one_of(pieces, st.text(max_size=4)), max_size=12).map("".join)
forged = st.lists(st.one_of(pieces, st.sampled_from(CONTROL)), max_size=10).map("".join)

Pair = tuple[TextCodec, PreTrainedTokenizerFast]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("folders")
    made: dict[str, Pair] = {}
    for family in FAMILIES:
        reference = save_folder(folder / family, family)
        made[family] = open_codec(folder / family), reference
    return made


@pytest.mark.parametrize("family", FAMILIES)
@PROPERTY
@given(text=prose)
def test_text_becomes_the_ids_that_transformers_gives(
    pairs: dict[str, Pair], family: str, text: str
) -> None:
    codec, reference = pairs[family]

    assert codec.encode(text) == reference.encode(text, add_special_tokens=False)
    assert codec.document(text) == reference.encode(text)


@pytest.mark.parametrize("family", FAMILIES)
@PROPERTY
@given(text=forged)
def test_control_tokens_are_found_where_transformers_finds_them(
    pairs: dict[str, Pair], family: str, text: str
) -> None:
    codec, reference = pairs[family]

    assert codec.encode(text, special=True) == reference.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("family", FAMILIES)
@PROPERTY
@given(text=forged)
def test_no_text_becomes_a_control_token(pairs: dict[str, Pair], family: str, text: str) -> None:
    codec, reference = pairs[family]
    unknown = {reference.unk_token_id}  # what a character is that the vocabulary has not

    assert not [t for t in codec.encode(text) if codec.is_control(t) and t not in unknown]


@pytest.mark.parametrize("family", FAMILIES)
@PROPERTY
@given(text=prose)
def test_tokens_become_the_text_that_transformers_gives(
    pairs: dict[str, Pair], family: str, text: str
) -> None:
    codec, reference = pairs[family]
    tokens = codec.encode(text)
    expected = reference.decode(
        tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )

    decoded = codec.decode(tokens)

    # Tokens may go on with a text, so the space before the first word stays.
    assert decoded == expected or (family in ("bert", "xlm", "words") and decoded[1:] == expected)
    assert b"".join(codec.token_bytes(t) for t in tokens if not codec.is_control(t)) == (
        decoded.encode()
    )


@PROPERTY
@given(tokens=st.lists(st.integers(0, 399), max_size=12))
def test_any_byte_level_tokens_decode_as_in_transformers(
    pairs: dict[str, Pair], tokens: list[int]
) -> None:
    codec, reference = pairs["byte level"]
    shown = [token for token in tokens if not codec.is_control(token)]

    assert codec.decode(tokens) == reference.decode(
        shown, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


def test_rows_beyond_the_tokenizer_have_no_text(pairs: dict[str, Pair]) -> None:
    codec, _ = pairs["byte level"]
    padding = codec.vocabulary_size + 100

    assert codec.token_bytes(padding) == b""
    assert codec.is_control(padding)
    assert codec.decode([padding, *codec.encode("dog")], special=True) == "dog"


def changed(folder: Path, file: str, **changes: object) -> None:
    path = folder / file
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}))


def test_answers_end_at_every_token_that_the_folder_names(tmp_path: Path) -> None:
    reference = save_folder(tmp_path, "byte level")
    start, end, bos = (reference.convert_tokens_to_ids(t) for t in (*TURNS, "<s>"))
    assert open_codec(tmp_path).stop_tokens == (end,)

    changed(tmp_path, "generation_config.json", eos_token_id=[bos, start, 10**6])

    assert open_codec(tmp_path).stop_tokens == (end, bos, start)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_folder_says_whether_a_text_is_framed(tmp_path: Path, wanted: bool) -> None:
    reference = save_folder(tmp_path, "mistral", add_bos_token=wanted, add_eos_token=wanted)

    assert open_codec(tmp_path).document("dog") == reference.encode("dog")


def test_a_prompt_is_never_ended(pairs: dict[str, Pair]) -> None:
    codec, reference = pairs["xlm"]

    assert codec.prompt("dog") == reference.encode("dog")[:-1]


def test_flags_of_added_tokens_count(tmp_path: Path) -> None:
    reference = save_folder(tmp_path, "byte level")
    reference.add_tokens(
        [
            AddedToken("<left>", lstrip=True, special=True),
            AddedToken("<right>", rstrip=True, special=True),
            AddedToken("<call>", lstrip=True, rstrip=True, normalized=False),
            AddedToken("alone", single_word=True, normalized=False),
        ]
    )
    reference.save_pretrained(tmp_path)
    codec = open_codec(tmp_path)

    for text in (
        "a \u3000<left> b",
        "a <right>\n\u2003 b",
        "a <call> b",
        "alone, lonesome",
        "nostandalone",
        " <left><right> <call> ",
    ):
        assert codec.encode(text, special=True) == reference.encode(text, add_special_tokens=False)


def test_a_vocabulary_cannot_smuggle_a_control_token_in(tmp_path: Path) -> None:
    """A merge that makes it, or a whole word that is it, would let text become it."""
    save_folder(tmp_path, "byte level")
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    vocab, merges = content["model"]["vocab"], content["model"]["merges"]
    vocab["do"] = 1000
    vocab["dog"] = 1001
    merges[:0] = [["d", "o"], ["do", "g"]]
    content["model"]["ignore_merges"] = True
    content["added_tokens"].append({"id": 1001, "content": "dog", "special": True})
    path.write_text(json.dumps(content))
    codec = open_codec(tmp_path)

    assert 1001 not in codec.encode("dog")
    assert codec.encode("dog", special=True) == [1001]
    assert codec.decode(codec.encode("dog")) == "dog"


def test_an_unknown_character_does_not_end_the_text(tmp_path: Path) -> None:
    save_folder(tmp_path, "gemma")
    changed(tmp_path, "tokenizer_config.json", eos_token="<unk>")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["byte_fallback"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    codec = open_codec(tmp_path)

    assert codec.stop_tokens[0] == 0
    assert codec.encode("\u1234") == []


def test_merges_may_be_written_as_lines(tmp_path: Path) -> None:
    reference = save_folder(tmp_path, "byte level")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    del content["model"]["type"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))

    assert open_codec(tmp_path).encode("The dog") == reference.encode("The dog")[1:]


def test_words_that_are_listed_become_what_transformers_makes_of_them(tmp_path: Path) -> None:
    reference = save_folder(tmp_path / "json", "bert")
    vocab = reference.get_vocab()
    folder = tmp_path / "list"
    folder.mkdir()
    (folder / "vocab.txt").write_text("".join(f"{t}\n" for t in sorted(vocab, key=vocab.get)))
    codec = open_codec(folder)

    for text in ("The DOG, überall Äpfel.", "日本語 quick[SEP]", "", "[UNK]"):
        plain = text.replace("[", "").replace("]", "")
        assert codec.document(plain) == reference.encode(plain)
        assert codec.encode(text, special=True) == reference.encode(text, add_special_tokens=False)


def test_a_folder_without_tokenizer_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="has no tokenizer") as refusal:
        open_codec(tmp_path)

    assert refusal.value.hint == "it needs one of: tokenizer.json, tokenizer.model, vocab.txt"


def test_the_library_itself_agrees_on_a_trained_folder(tmp_path: Path) -> None:
    save_folder(tmp_path, "byte level")
    library = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))

    assert open_codec(tmp_path).document("The lazy dog") == library.encode("The lazy dog").ids

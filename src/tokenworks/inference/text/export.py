"""Says a model folder's tokenizer and chat template in GGUF's metadata.

GGUF names how text is cut into words instead of describing it. The right name is found by trying:
it is the one by which our reader of GGUF makes the same tokens of many kinds of text.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from tokenworks.errors import ModelError
from tokenworks.inference.models.gguf_writer import Writable
from tokenworks.inference.text.byte_level import byte_level_bpe
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.files import read_bytes
from tokenworks.inference.text.folder import read_vocabulary, tokenizer_file
from tokenworks.inference.text.folder_settings import read_settings
from tokenworks.inference.text.json_models import merge_pairs
from tokenworks.inference.text.pre_tokenizers import WORDS
from tokenworks.inference.text.sentencepiece_file import BPE, parse_sentencepiece
from tokenworks.inference.text.tokenizer_json import read_tokenizer_json
from tokenworks.inference.text.vocabulary import Spelling, TokenKind, Vocabulary

_KEYS: Final = "tokenizer.ggml."
_HARD_TO_CUT: Final = (
    "1234567 12,345.678 3.14159 x2y 10km/h 2024-05-06",
    "I'll don't WE'RE they'd you've he's O'Neill's",
    "  two   spaces\n\n\nlines\r\n\ttab  \n end   ",
    "foo_bar(baz[0]) != {'a': 1}; // **x** <p>&amp;</p> ... ?! #$%",
    "camelCase HTMLParser ÉCOLE naïve Straße e\u0301te\u0301 ﬁn Ⅷ ½",
    "日本語のテキスト 中文字符123 한국어 العربية עברית हिन्दी ไทย 🙂👍🏽",
)
"""Where the ways to cut text differ."""


def tokenizer_metadata(folder: Path, rows: int, probe: str) -> dict[str, Writable]:
    """Of a model whose embedding has so many rows. `probe` is more text to try names on.

    Raises ModelFileError for a tokenizer that is no good, and ModelError for one that GGUF files
    cannot describe.
    """
    settings = read_settings(folder)
    path = tokenizer_file(folder)
    vocabulary, tokenizer = read_vocabulary(path, settings)
    if len(vocabulary.tokens) > rows:
        raise ModelError(f"'{path}' has {len(vocabulary.tokens)} tokens for {rows} embeddings")
    probes = [probe, *_HARD_TO_CUT]
    if path.name == "tokenizer.json" and vocabulary.spelling is Spelling.BYTE_LEVEL:
        own = _byte_level(path, vocabulary, tokenizer, probes)
    elif path.name == "tokenizer.model":
        own = _sentencepiece(path, rows)
    else:
        raise _indescribable(path)
    template: dict[str, Writable] = {}
    if settings.template is not None:
        template["tokenizer.chat_template"] = settings.template
    return {**own, **_tokens(vocabulary, rows), **template}


def check_same_tokens(ours: TextCodec, written: TextCodec, probe: str, path: Path) -> None:
    """Raise ModelError unless both make the same tokens of many kinds of text."""
    for text in (probe, *_HARD_TO_CUT):
        if ours.prompt(text) != written.prompt(text):
            raise _indescribable(path)


def _tokens(vocabulary: Vocabulary, rows: int) -> dict[str, Writable]:
    """Names and kinds of all rows; those that stand for nothing need names of their own."""
    missing = rows - len(vocabulary.tokens)
    kinds = [*map(int, vocabulary.kinds), *[int(TokenKind.UNUSED)] * missing]
    texts = [*vocabulary.tokens, *[""] * missing]
    named = [text or f"[PAD{index}]" for index, text in enumerate(texts)]
    said: dict[str, Writable] = {
        f"{_KEYS}tokens": named,
        f"{_KEYS}token_type": np.array(kinds, np.int32),
        f"{_KEYS}add_bos_token": bool(vocabulary.begin),
        f"{_KEYS}add_eos_token": bool(vocabulary.end),
    }
    others = [token for token in vocabulary.stop_tokens if token != vocabulary.eos]
    unknown = next((i for i, kind in enumerate(kinds) if kind == TokenKind.UNKNOWN), None)
    ids = {"bos": vocabulary.bos, "eos": vocabulary.eos, "unknown": unknown}
    ids["eot"] = others[0] if others else None
    return said | {f"{_KEYS}{name}_token_id": id for name, id in ids.items() if id is not None}


def _byte_level(
    path: Path, vocabulary: Vocabulary, tokenizer: Tokenizer, probes: Sequence[str]
) -> dict[str, Writable]:
    merges = merge_pairs(read_tokenizer_json(path).model)
    vocab = vocabulary.of_kind(TokenKind.NORMAL, TokenKind.USER_DEFINED)
    wanted = _encoded(tokenizer, probes)
    tried = []
    for name, words in WORDS.items():
        if words in tried:
            continue
        tried.append(words)
        candidate = byte_level_bpe(vocab, merges, vocabulary.control, words)
        if _encoded(candidate, probes) == wanted:
            pairs = [f"{left} {right}" for left, right in merges]
            return {f"{_KEYS}model": "gpt2", f"{_KEYS}pre": name, f"{_KEYS}merges": pairs}
    raise _indescribable(path)


def _sentencepiece(path: Path, rows: int) -> dict[str, Writable]:
    file = parse_sentencepiece(read_bytes(path))
    if file.algorithm != BPE:
        raise _indescribable(path)
    scores = [*file.pieces.scores, *[min(file.pieces.scores)] * (rows - len(file.pieces.scores))]
    return {
        f"{_KEYS}model": "llama",
        f"{_KEYS}pre": "default",
        f"{_KEYS}scores": np.array(scores, np.float32),
        f"{_KEYS}add_space_prefix": file.pieces.space_prefix,
    }


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [one.ids for one in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def _indescribable(path: Path) -> ModelError:
    return ModelError(
        f"No GGUF file can describe the tokenizer '{path}' so that it makes the same tokens",
        hint="compress a GGUF file of the same model, if there is one",
    )

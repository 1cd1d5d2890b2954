"""Builds the byte-level BPE encoder that a model file describes."""

from collections.abc import Callable
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.gguf import GGUF
from tokenworks.inference.models.gguf_values import LazyArray
from tokenworks.inference.text.vocabulary import TokenKind, Vocabulary

_GPT2_WORDS: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3_WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _gpt2() -> PreTokenizer:
    return ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm() -> PreTokenizer:
    return Sequence([Digits(individual_digits=True), _gpt2()])


def _llama3() -> PreTokenizer:
    return _splits(_LLAMA3_WORDS)


def _default() -> PreTokenizer:
    return _splits(r"[\p{P}\$\+<=>\^~\|]+", _GPT2_WORDS, r"\p{N}+", r"[0-9][0-9][0-9]")


def _splits(*patterns: str) -> PreTokenizer:
    """Cut at every match of the first pattern, then each piece at the second's, and so on."""
    splits: list[PreTokenizer] = [Split(Regex(pattern), "isolated") for pattern in patterns]
    return Sequence([*splits, ByteLevel(add_prefix_space=False, use_regex=False)])


# How text is cut into words before merging, by `tokenizer.ggml.pre`.
# Source: llama.cpp, llama-vocab.cpp (`llm_tokenizer_bpe`).
PRE_TOKENIZERS: Final[dict[str, Callable[[], PreTokenizer]]] = {
    "smollm": _smollm,
    "gpt-2": _gpt2,
    "llama-bpe": _llama3,
    "llama3": _llama3,
    "llama-v3": _llama3,
    "default": _default,
}


def build_tokenizer(gguf: GGUF, vocabulary: Vocabulary) -> Tokenizer:
    """An encoder of plain text: control tokens are not in it, so no text can become one.

    Raises ModelFileError for a kind of tokenizer that is not supported or merges that do not fit
    the vocabulary.
    """
    _require(gguf, "tokenizer.ggml.model", ("gpt2",), default="")
    pre = _require(gguf, "tokenizer.ggml.pre", tuple(PRE_TOKENIZERS), default="default")
    vocab = {
        token: index
        for index, token in enumerate(vocabulary.tokens)
        if not vocabulary.is_control(index)
    }
    try:
        model = BPE(
            vocab=vocab,
            merges=_merges(gguf),
            ignore_merges=PRE_TOKENIZERS[pre] is _llama3,
        )
    except Exception as problem:  # the library raises plain Exception for a merge out of vocabulary
        raise ModelFileError(f"Model file '{gguf.path}': bad tokenizer: {problem}") from None
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre]()
    tokenizer.add_tokens(
        [AddedToken(text, normalized=False) for text in vocabulary.of_kind(TokenKind.USER_DEFINED)]
    )
    return tokenizer


def _require(gguf: GGUF, key: str, supported: tuple[str, ...], *, default: str) -> str:
    value = gguf.metadata.get(key, default)
    if not isinstance(value, str) or value not in supported:
        raise ModelFileError(
            f"Model file '{gguf.path}': {key} {value!r} is not supported",
            hint=f"supported: {', '.join(supported)}",
        )
    return value


def _merges(gguf: GGUF) -> list[tuple[str, str]]:
    merges = gguf.metadata.get("tokenizer.ggml.merges")
    if not isinstance(merges, LazyArray):
        raise ModelFileError(
            f"Model file '{gguf.path}': metadata 'tokenizer.ggml.merges' is missing"
        )
    pairs: list[tuple[str, str]] = []
    for merge in merges.strings():
        left, _, right = merge.partition(" ")
        if not left or not right:
            raise ModelFileError(f"Model file '{gguf.path}': merge {merge!r} is not a pair")
        pairs.append((left, right))
    return pairs

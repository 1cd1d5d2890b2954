"""Builds the models of a tokenizer.json without the tokens that no text may become."""

from collections.abc import Callable
from typing import Final

import msgspec
from tokenizers.models import BPE, Model, Unigram, WordLevel, WordPiece

from tokenworks.inference.text.added_tokens import Listing
from tokenworks.inference.text.byte_level import without
from tokenworks.inference.text.vocabulary import CONTINUES, TokenKind


class ModelEntry(msgspec.Struct):
    """The `model` of a tokenizer.json, of any type."""

    vocab: dict[str, int] | list[tuple[str, float]]
    type: str | None = None
    merges: list[str | tuple[str, str]] = []
    unk_token: str | None = None
    unk_id: int | None = None
    fuse_unk: bool = False
    byte_fallback: bool = False
    ignore_merges: bool = False
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None
    max_input_chars_per_word: int = 100


def _bpe(model: ModelEntry, tokens: Listing) -> Model:
    vocab, unknown = _with_unknown(tokens)
    prefix = model.continuing_subword_prefix or ""
    pairs = merge_pairs(model)
    marks = {  # the library takes no None for any of them
        "unk_token": unknown,
        "continuing_subword_prefix": prefix or None,
        "end_of_word_suffix": model.end_of_word_suffix or None,
    }
    return BPE(
        vocab=vocab,
        merges=without(pairs, tokens.hidden(), prefix),
        fuse_unk=model.fuse_unk,
        byte_fallback=model.byte_fallback,
        ignore_merges=model.ignore_merges,
        **{name: mark for name, mark in marks.items() if mark is not None},
    )


def merge_pairs(model: ModelEntry) -> list[tuple[str, str]]:
    """Raises ValueError for a merge that is no pair."""
    return [_pair(merge) for merge in model.merges]


def _pair(merge: str | tuple[str, str]) -> tuple[str, str]:
    if not isinstance(merge, str):
        return merge
    left, _, right = merge.partition(" ")
    if not left or not right:
        raise ValueError(f"merge {merge!r} is not a pair")
    return left, right


def _word_piece(model: ModelEntry, tokens: Listing) -> Model:
    prefix = model.continuing_subword_prefix or CONTINUES
    if prefix != CONTINUES:
        raise ValueError(f"WordPiece that spells a token that goes on with {prefix!r}, not with ##")
    vocab, unknown = _with_unknown(tokens)
    return WordPiece(
        vocab=vocab,
        unk_token=_required(unknown),
        max_input_chars_per_word=model.max_input_chars_per_word,
        continuing_subword_prefix=prefix,
    )


def _word_level(model: ModelEntry, tokens: Listing) -> Model:
    vocab, unknown = _with_unknown(tokens)
    return WordLevel(vocab=vocab, unk_token=_required(unknown))


def _with_unknown(tokens: Listing) -> tuple[dict[str, int], str | None]:
    """The vocabulary, and how it spells the unknown token: "", so that no text can spell it."""
    vocab = tokens.vocab()
    if TokenKind.UNKNOWN not in tokens.kinds:
        return vocab, None
    return {**vocab, "": tokens.kinds.index(TokenKind.UNKNOWN)}, ""


def _required(unknown: str | None) -> str:
    if unknown is None:
        raise ValueError("it has no unknown token")
    return unknown


def _unigram(model: ModelEntry, tokens: Listing) -> Model:
    """Control tokens keep their places and are spelt "", which nothing matches.

    Added tokens that the model does not have get its lowest score: they are found before it runs.
    """
    assert isinstance(model.vocab, list)
    scores = [score for _, score in model.vocab]
    scores += [min(scores, default=0.0)] * (len(tokens.texts) - len(scores))
    readable = set(tokens.vocab().values())
    spelt = [(t if i in readable else "", scores[i]) for i, t in enumerate(tokens.texts)]
    return Unigram(spelt, model.unk_id, model.byte_fallback)


MODELS: Final[dict[str, Callable[[ModelEntry, Listing], Model]]] = {
    "BPE": _bpe,
    "WordPiece": _word_piece,
    "WordLevel": _word_level,
    "Unigram": _unigram,
}
"""What builds each type of model; plain Exception where the library refuses."""

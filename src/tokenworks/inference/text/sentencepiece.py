"""Builds what SentencePiece does: BPE by scores (Llama 2, Mistral, Gemma) and Unigram (XLM-R, T5).

Source: google/sentencepiece, bpe_model.cc, unigram_model.cc, normalizer.cc; Kudo 2018
(arXiv:1804.10959) for Unigram.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE, Unigram
from tokenizers.normalizers import Normalizer, Precompiled, Prepend, Replace
from tokenizers.normalizers import Sequence as Normalizers

from tokenworks.inference.text.vocabulary import BYTE_TOKENS, SPACE, TokenKind

MAX_PIECE_CHARACTERS: Final = 256
MAX_VOCABULARY_CHARACTERS: Final = 16 << 20
"""Finding the merges takes time in proportion to both."""


@dataclass(frozen=True)
class Pieces:
    """What a SentencePiece model holds: its pieces by id, and how it prepares text.

    `space_prefix` puts a space before a text, and `trims_spaces` makes one of several and none at
    either end; `charsmap` replaces characters, in SentencePiece's own compiled form.
    """

    texts: Sequence[str]
    scores: Sequence[float]
    kinds: Sequence[int]
    space_prefix: bool = True
    trims_spaces: bool = False
    charsmap: bytes = b""

    @property
    def unknown(self) -> int | None:
        return next((i for i, kind in enumerate(self.kinds) if kind == TokenKind.UNKNOWN), None)


def bpe_by_scores(pieces: Pieces) -> Tokenizer:
    """BPE that merges whatever two neighbours make the piece of the highest score.

    Control tokens are not in it. A character that is no piece becomes its bytes' tokens, or the
    unknown token, which is spelt "" so that no text can spell it. Raises ValueError for pieces too
    long to find their merges in reasonable time.
    """
    vocab = {
        text: index
        for index, (text, kind) in enumerate(zip(pieces.texts, pieces.kinds, strict=True))
        if kind in (TokenKind.NORMAL, TokenKind.USER_DEFINED, TokenKind.BYTE)
    }
    unknown = pieces.unknown
    model = BPE(
        vocab=vocab if unknown is None else {**vocab, "": unknown},
        merges=_merges(pieces),
        fuse_unk=True,
        byte_fallback=BYTE_TOKENS.keys() <= vocab.keys(),
        **({} if unknown is None else {"unk_token": ""}),
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _normalizer(pieces)
    return tokenizer


def _merges(pieces: Pieces) -> list[tuple[str, str]]:
    """Every way to make a piece of two, the highest score first."""
    normal = [i for i, kind in enumerate(pieces.kinds) if kind == TokenKind.NORMAL]
    texts = {pieces.texts[index] for index in normal}
    _check_sizes(texts)
    order = sorted(normal, key=lambda index: (-pieces.scores[index], index))
    merges: list[tuple[str, str]] = []
    for index in order:
        text = pieces.texts[index]
        for cut in range(1, len(text)):
            left = text[:cut]
            if left in texts and text[cut:] in texts:
                merges.append((left, text[cut:]))
    return merges


def _check_sizes(texts: set[str]) -> None:
    longest = max(map(len, texts), default=0)
    if longest > MAX_PIECE_CHARACTERS:
        raise ValueError(
            f"a token has {longest} characters, more than the {MAX_PIECE_CHARACTERS} allowed"
        )
    if sum(map(len, texts)) > MAX_VOCABULARY_CHARACTERS:
        raise ValueError(f"the tokens have more than {MAX_VOCABULARY_CHARACTERS} characters")


def unigram(pieces: Pieces) -> Tokenizer:
    """The segmentation of the highest total score.

    Control, unused and unknown tokens keep their ids and are spelt "", which nothing matches.
    """
    readable = (TokenKind.NORMAL, TokenKind.USER_DEFINED, TokenKind.BYTE)
    spelt = [
        (text if kind in readable else "", float(score))
        for text, kind, score in zip(pieces.texts, pieces.kinds, pieces.scores, strict=True)
    ]
    has_bytes = BYTE_TOKENS.keys() <= {text for text, _ in spelt}
    tokenizer = Tokenizer(Unigram(spelt, pieces.unknown, has_bytes))
    tokenizer.normalizer = _normalizer(pieces)
    return tokenizer


def _normalizer(pieces: Pieces) -> Normalizer:
    steps: list[Normalizer] = [Precompiled(pieces.charsmap)] if pieces.charsmap else []
    if pieces.trims_spaces:
        steps += [Replace(Regex(" {2,}"), " "), Replace(Regex(r"\A | \z"), "")]
    if pieces.space_prefix:
        steps.append(Prepend(SPACE))
    return Normalizers([*steps, Replace(" ", SPACE)])

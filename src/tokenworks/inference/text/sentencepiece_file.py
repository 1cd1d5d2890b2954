"""Reads SentencePiece's own model files (`tokenizer.model`).

Source of the fields: google/sentencepiece, sentencepiece_model.proto (`ModelProto`).
"""

import struct
from dataclasses import dataclass
from typing import Final

from tokenworks.inference.text.protobuf import fields
from tokenworks.inference.text.sentencepiece import Pieces
from tokenworks.inference.text.vocabulary import MAX_TOKENS, SPACE, TokenKind

UNIGRAM: Final = 1
BPE: Final = 2
_ALGORITHMS: Final = {UNIGRAM: "unigram", BPE: "bpe", 3: "word", 4: "char"}
_NO_ID: Final = 1 << 63  # negative numbers are written as 64 bits


@dataclass(frozen=True)
class SentencePieceFile:
    """What a file says: its pieces, the algorithm that finds them, and the ids it names."""

    pieces: Pieces
    algorithm: int
    bos: int | None
    eos: int | None


def parse_sentencepiece(data: bytes) -> SentencePieceFile:
    """Raises ValueError, saying what, for what is malformed or not supported."""
    texts: list[str] = []
    scores: list[float] = []
    kinds: list[int] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in fields(data):
        if number == 1:
            text, score, kind = _piece(_bytes(value, "a piece"))
            texts.append(text)
            scores.append(score)
            kinds.append(kind)
            if len(texts) > MAX_TOKENS:
                raise ValueError(f"more than {MAX_TOKENS} pieces")
        elif number == 2:
            trainer = dict(fields(_bytes(value, "the trainer's settings")))
        elif number == 3:
            normalizer = dict(fields(_bytes(value, "the normaliser")))
    if not texts:
        raise ValueError("it holds no pieces")
    algorithm = _number(trainer, 3, UNIGRAM)
    if algorithm not in (UNIGRAM, BPE):
        raise ValueError(f"algorithm {_ALGORITHMS.get(algorithm, algorithm)!r} is not supported")
    if _number(trainer, 24, 0):
        raise ValueError("white space as a suffix is not supported")
    pieces = Pieces(
        texts=texts,
        scores=scores,
        kinds=kinds,
        space_prefix=bool(_number(normalizer, 3, 1)),
        trims_spaces=bool(_number(normalizer, 4, 1)),
        charsmap=_bytes(normalizer.get(2, b""), "the character map"),
    )
    bos, eos = (
        _token(_number(trainer, n, default), len(texts)) for n, default in ((41, 1), (42, 2))
    )
    return SentencePieceFile(pieces, algorithm, bos, eos)


def _piece(message: bytes) -> tuple[str, float, int]:
    text, score, kind = "", 0.0, int(TokenKind.NORMAL)
    for number, value in fields(message):
        if number == 1:
            text = _bytes(value, "a piece's text").decode()  # UnicodeDecodeError is a ValueError
        elif number == 2 and isinstance(value, bytes) and len(value) == 4:
            score = struct.unpack("<f", value)[0]
        elif number == 3 and isinstance(value, int):
            kind = value
    if kind == TokenKind.USER_DEFINED:
        text = text.replace(SPACE, " ")  # it is looked for in text as people write it
    return text, score, kind


def _bytes(value: int | bytes, what: str) -> bytes:
    if isinstance(value, int):
        raise ValueError(f"{what} is a number")
    return value


def _number(message: dict[int, int | bytes], number: int, default: int) -> int:
    value = message.get(number, default)
    return value if isinstance(value, int) else default


def _token(number: int, size: int) -> int | None:
    if number >= _NO_ID:
        return None
    if number >= size:
        raise ValueError(f"it names token {number} of {size}")
    return number

"""Numbers that describe a prompt: some made by hand, and counts of hashed pieces of text. Pure."""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

LONGEST: Final = 2000
"""Characters that are looked at; the rest of a longer prompt changes its length only."""

HASHED: Final = 2048
"""Places for pieces of text, a power of two."""

_PIECES: Final = (3, 4, 5)
"""Bytes of a piece."""

_GROUPS: Final = (
    "percent",
    "half third quarter fifth fraction halves thirds quarters",
    "twice times double triple each every per",
    "more less fewer remaining left than difference",
    "if unless instead except after before then",
    "hour hours minute minutes day days week weeks month months year years",
    "what who when where why how which",
    "def class return import function",
    "two three four five six seven eight nine ten eleven twelve dozen hundred thousand million",
    "older younger longer shorter taller bigger larger smaller faster slower greater higher lower",
    "and",
    "of",
    "prove derive explain compare design implement optimize translate summarize",
)
"""Words that are counted together."""

_SIGNS: Final = "$€£¥%/.,?`{};=\n"
_GROUP: Final = {word: number for number, group in enumerate(_GROUPS) for word in group.split()}
_WORD: Final = re.compile(r"[^\W\d_]+|\d+")
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
_SENTENCE_END: Final = re.compile(r"[.!?。！？](?:\s|$)|[。！？]")
_CAPITALISED: Final = re.compile(r"\b[A-Z][a-z]+")
_SHAPES: Final = 17

MADE: Final = _SHAPES + len(_GROUPS) + len(_SIGNS)
SIZE: Final = MADE + HASHED
"""Numbers of a prompt: those made by hand first."""

_DIGITS_ALIKE: Final = bytes.maketrans(b"123456789", b"000000000")


def features(prompt: str) -> Numbers:
    """A vector of SIZE finite numbers."""
    text = prompt[:LONGEST]
    row = np.empty(SIZE)
    row[:MADE] = _made(text, len(prompt))
    row[MADE:] = _hashed(text)
    return row


def _made(text: str, length: int) -> Sequence[float]:
    capitalised = len(_CAPITALISED.findall(text))
    text = text.lower()
    words = _WORD.findall(text)
    written = _NUMBER.findall(text)
    values = [_value(number) for number in written] or [0.0]
    sentences = [part for part in _SENTENCE_END.split(text) if part.strip()] or [""]
    lengths = [len(sentence.split()) for sentence in sentences]
    groups = [0] * len(_GROUPS)
    for word in words:
        if (group := _GROUP.get(word)) is not None:
            groups[group] += 1
    counts = [
        length,
        len(words),
        len(written),
        len(set(written)),
        sum("." in number for number in written),
        len(sentences),
        max(lengths),
        sum(lengths) / len(lengths),
        lengths[-1],
        max(values),
        min(values),
        sum(values) / len(values),
        sum(letter.isdigit() for letter in sentences[-1]),
        len(text) - len(text.encode("ascii", "ignore")),
        capitalised,
        *groups,
        *(text.count(sign) for sign in _SIGNS),
    ]
    mean_length = sum(map(len, words)) / max(1, len(words))
    return [mean_length, len(set(words)) / max(1, len(words)), *np.log1p(counts)]


def _value(number: str) -> float:
    """What a number is worth, about: of the first 15 digits, with a comma between thousands."""
    plain = number.replace(",", "")[:15].rstrip(".")
    return float(plain) if plain.count(".") < 2 else 0.0


def _hashed(text: str) -> Numbers:
    """Counts of pieces of 3 to 5 bytes by hash, as logarithms, scaled to length one.

    All digits count as one, and all white space.
    """
    plain = b" ".join(text.lower().encode("utf-8", "replace").translate(_DIGITS_ALIKE).split())
    letters = np.frombuffer(b" " + plain + b" ", np.uint8).astype(np.uint32)
    counts = np.zeros(HASHED)
    # FNV-1a from every place at once; the pieces of each size end with a finishing round as in
    # MurmurHash3, and the longer ones go on from there.
    value = np.full(len(letters), 0x811C9DC5, np.uint32)
    for size in range(1, _PIECES[-1] + 1):
        places = len(letters) - size + 1
        if places <= 0:
            break
        value = (value[:places] ^ letters[size - 1 :]) * np.uint32(0x01000193)
        if size in _PIECES:
            counts += np.bincount(_finished(value), minlength=HASHED)
    counts = np.log1p(counts)
    return np.asarray(counts / (float(np.linalg.norm(counts)) or 1.0))


def _finished(value: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Hashes to places."""
    value = (value ^ (value >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    return np.asarray((value ^ (value >> np.uint32(12))) & np.uint32(HASHED - 1))

"""Reads the `tokenizer.ggml` metadata of a GGUF file, each value checked for its type and range."""

from dataclasses import dataclass, replace

import numpy as np

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.gguf import GGUF
from tokenworks.inference.models.gguf_values import LazyArray
from tokenworks.inference.text.vocabulary import TokenKind

_KEYS = "tokenizer.ggml."


@dataclass(frozen=True)
class TokenTable:
    """The tokens of a file by id, as it spells them, and their kinds. Others are read when asked.

    All raise ModelFileError, naming file and key, for what is missing, of a wrong type or out of
    range.
    """

    gguf: GGUF
    texts: list[str]
    kinds: list[int]

    def choice(self, key: str, supported: tuple[str, ...], *, default: str) -> str:
        value = self.gguf.metadata.get(key, default)
        if not isinstance(value, str) or value not in supported:
            raise self.error(
                f"{key} {value!r} is not supported", hint=f"supported: {', '.join(supported)}"
            )
        return value

    def flag(self, name: str, default: bool) -> bool:
        return bool(self.gguf.metadata.get(_KEYS + name, default))

    def token_id(self, name: str, default: int | None = None) -> int | None:
        """The id that the file gives, or the default if the vocabulary reaches so far."""
        key = f"{_KEYS}{name}_token_id"
        size = len(self.texts)
        value = self.gguf.metadata.get(key)
        if value is None:
            return default if default is not None and default < size else None
        if not isinstance(value, int) or not 0 <= value < size:
            raise self.error(f"metadata {key!r} is {value!r}, not one of {size} tokens")
        return value

    def with_unknown(self, default: int) -> "TokenTable":
        """The same with the unknown token's kind set, which some files forget."""
        named = self.token_id("unknown")
        if named is None and TokenKind.UNKNOWN in self.kinds:
            return self
        unknown = self.token_id("unknown", default)
        kinds = [
            TokenKind.UNKNOWN if index == unknown else kind for index, kind in enumerate(self.kinds)
        ]
        return replace(self, kinds=kinds)

    def merges(self) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        for merge in _array(self.gguf, "merges").strings():
            left, _, right = merge.partition(" ")
            if not left or not right:
                raise self.error(f"merge {merge!r} is not a pair")
            pairs.append((left, right))
        return pairs

    def scores(self) -> list[float]:
        scores = _array(self.gguf, "scores").numbers()
        if len(scores) != len(self.texts):
            raise self.error(f"{len(self.texts)} tokens but {len(scores)} scores")
        return [float(score) for score in scores.astype(np.float64).tolist()]

    def raw_bytes(self, name: str) -> bytes:
        """An array of bytes; none if it is absent."""
        if _KEYS + name not in self.gguf.metadata:
            return b""
        numbers = _array(self.gguf, name).numbers()
        if numbers.dtype.itemsize != 1:
            raise self.error(f"metadata {_KEYS + name!r} is not bytes")
        return numbers.tobytes()

    def error(self, problem: str, hint: str | None = None) -> ModelFileError:
        return ModelFileError(f"Model file '{self.gguf.path}': {problem}", hint=hint)


def read_tokens(gguf: GGUF) -> TokenTable:
    """The tokens of a model file. Raises ModelFileError if they are missing or inconsistent."""
    texts = _array(gguf, "tokens").strings()
    kinds = _array(gguf, "token_type").numbers()
    if kinds.dtype.kind not in "iu":
        raise ModelFileError(
            f"Model file '{gguf.path}': metadata 'tokenizer.ggml.token_type' is not whole numbers"
        )
    if len(texts) != len(kinds):
        raise ModelFileError(
            f"Model file '{gguf.path}': {len(texts)} tokens but {len(kinds)} token types"
        )
    return TokenTable(gguf, texts, [int(kind) for kind in kinds.tolist()])


def _array(gguf: GGUF, name: str) -> LazyArray:
    value = gguf.metadata.get(_KEYS + name)
    if not isinstance(value, LazyArray):
        raise ModelFileError(
            f"Model file '{gguf.path}': metadata {_KEYS + name!r} is missing or no array"
        )
    return value

"""A model's vocabulary: its tokens, what kind each is, and the bytes each stands for."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.gguf import GGUF
from tokenworks.inference.models.gguf_values import LazyArray

# Tokens that end an answer wherever they are control tokens, whatever `eos` says: chat models are
# shipped with either. The list is llama.cpp's (llama-vocab.cpp, `special_eog_ids`).
ANSWER_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<EOT>",
)


class TokenKind(IntEnum):
    """What `tokenizer.ggml.token_type` says, with its numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in character for each of the 256 bytes, mapped to the byte.

    Source: openai/gpt-2, encoder.py, `bytes_to_unicode`.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + index): byte for index, byte in enumerate(others)}


_ALPHABET = byte_alphabet()


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id. Normal tokens are spelt in GPT-2's byte alphabet, all others as plain text."""

    tokens: list[str]
    kinds: list[int]
    bos: int | None
    eos: int | None
    add_bos: bool
    stop_tokens: tuple[int, ...]

    def is_control(self, token: int) -> bool:
        return self.kinds[token] == TokenKind.CONTROL

    def token_bytes(self, token: int) -> bytes:
        """The bytes this token stands for. Raises IndexError outside the vocabulary."""
        if token < 0:
            raise IndexError(f"token {token} is negative")
        text = self.tokens[token]
        if self.kinds[token] != TokenKind.NORMAL:
            return text.encode()
        try:
            return bytes([_ALPHABET[character] for character in text])
        except KeyError:
            return text.encode()

    @cached_property
    def control(self) -> dict[str, int]:
        """Control tokens by their text."""
        return self.of_kind(TokenKind.CONTROL)

    def of_kind(self, kind: TokenKind) -> dict[str, int]:
        kinds = zip(self.tokens, self.kinds, strict=True)
        return {token: index for index, (token, its) in enumerate(kinds) if its == kind and token}


def read_vocabulary(gguf: GGUF) -> Vocabulary:
    """The vocabulary of a model file. Raises ModelFileError if it is missing or inconsistent."""
    tokens = _array(gguf, "tokenizer.ggml.tokens").strings()
    kinds = _whole_numbers(gguf, "tokenizer.ggml.token_type")
    if len(tokens) != len(kinds):
        raise ModelFileError(
            f"Model file '{gguf.path}': {len(tokens)} tokens but {len(kinds)} token types"
        )
    eos = _token_id(gguf, "eos", len(tokens))
    ends = [eos, _token_id(gguf, "eot", len(tokens)), _token_id(gguf, "eom", len(tokens))]
    control = {
        token: index
        for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind == TokenKind.CONTROL
    }
    ends += [control.get(text) for text in ANSWER_ENDS]
    return Vocabulary(
        tokens=tokens,
        kinds=kinds,
        bos=_token_id(gguf, "bos", len(tokens)),
        eos=eos,
        add_bos=_adds_bos(gguf.metadata),
        stop_tokens=tuple(dict.fromkeys(end for end in ends if end is not None)),
    )


def _adds_bos(metadata: Mapping[str, object]) -> bool:
    """What the file says; files that do not say follow llama.cpp's default for Llama 3."""
    is_llama3 = metadata.get("tokenizer.ggml.pre") in ("llama-bpe", "llama3", "llama-v3")
    return bool(metadata.get("tokenizer.ggml.add_bos_token", is_llama3))


def _token_id(gguf: GGUF, name: str, size: int) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id"
    value = gguf.metadata.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or not 0 <= value < size:
        raise ModelFileError(
            f"Model file '{gguf.path}': metadata {key!r} is {value!r}, not one of {size} tokens"
        )
    return value


def _whole_numbers(gguf: GGUF, key: str) -> list[int]:
    numbers = _array(gguf, key).numbers()
    if numbers.dtype.kind not in "iu":
        raise ModelFileError(f"Model file '{gguf.path}': metadata {key!r} is not whole numbers")
    return [int(number) for number in numbers.tolist()]


def _array(gguf: GGUF, key: str) -> LazyArray:
    value = gguf.metadata.get(key)
    if not isinstance(value, LazyArray):
        raise ModelFileError(f"Model file '{gguf.path}': metadata {key!r} is missing or no array")
    return value

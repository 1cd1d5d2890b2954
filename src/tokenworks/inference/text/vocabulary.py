"""A model's vocabulary: its tokens, what kind each is, and the bytes each stands for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import cached_property
from typing import Final

MAX_TOKENS: Final = 4 << 20  # the largest real vocabularies have about 262,000

SPACE: Final = "\u2581"
"""What SentencePiece and WordPiece in GGUF files write for a space."""

CONTINUES: Final = "##"
"""How WordPiece spells that a token goes on within a word."""

# Tokens that end an answer wherever they are control tokens, whatever `eos` says: chat models are
# shipped with either. The list is llama.cpp's (llama-vocab.cpp, `special_eog_ids`).
ANSWER_ENDS: Final = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<EOT>",
)


class TokenKind(IntEnum):
    """What `tokenizer.ggml.token_type` and SentencePiece say of a token, with their numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Spelling(Enum):
    """How a vocabulary writes bytes as text."""

    BYTE_LEVEL = "every byte is a character of GPT-2's alphabet"
    SENTENCEPIECE = "U+2581 is a space, and a byte token is written <0xNN>"
    WORDPIECE = "a token begins a word, with a space before it, unless it is written with ##"


def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in character for each of the 256 bytes, mapped to the byte.

    Source: openai/gpt-2, encoder.py, `bytes_to_unicode`.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + index): byte for index, byte in enumerate(others)}


_ALPHABET = byte_alphabet()
BYTE_TOKENS: Final = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}
"""SentencePiece's tokens for single bytes."""


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id; control, unknown and user-defined tokens are plain text, others spelt.

    `begin` and `end` are put around a whole text, `bos` and `eos` are what templates print, and
    `stop_tokens` end an answer. A control token in `strips_left` or `strips_right` takes the white
    space beside it along.
    """

    tokens: Sequence[str]
    kinds: Sequence[int]
    spelling: Spelling
    bos: int | None = None
    eos: int | None = None
    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    stop_tokens: tuple[int, ...] = ()
    strips_left: frozenset[int] = frozenset()
    strips_right: frozenset[int] = frozenset()

    def is_control(self, token: int) -> bool:
        """Whether the token is no part of any text.

        So is the unknown token, and whatever the model has beyond its tokenizer: files pad.
        """
        return token >= len(self.kinds) or self.kinds[token] in (
            TokenKind.CONTROL,
            TokenKind.UNKNOWN,
        )

    def token_bytes(self, token: int) -> bytes:
        """The bytes this token stands for; none for padding. Raises IndexError if negative."""
        if token < 0:
            raise IndexError(f"token {token} is negative")
        if token >= len(self.tokens) or self.kinds[token] == TokenKind.UNUSED:
            return b""
        text, kind = self.tokens[token], self.kinds[token]
        if kind in (TokenKind.CONTROL, TokenKind.UNKNOWN):
            return text.encode()
        if self.spelling is Spelling.SENTENCEPIECE:
            byte = BYTE_TOKENS.get(text) if kind == TokenKind.BYTE else None
            return byte or text.replace(SPACE, " ").encode()
        if self.spelling is Spelling.WORDPIECE:
            return text[2:].encode() if text.startswith(CONTINUES) else f" {text}".encode()
        return text.encode() if kind == TokenKind.USER_DEFINED else _from_alphabet(text)

    @cached_property
    def control(self) -> dict[str, int]:
        """Control tokens and the unknown token by their text."""
        return self.of_kind(TokenKind.UNKNOWN) | self.of_kind(TokenKind.CONTROL)

    def of_kind(self, *kinds: TokenKind) -> dict[str, int]:
        """Ids of the tokens of these kinds, by their text as the vocabulary spells it."""
        pairs = enumerate(zip(self.tokens, self.kinds, strict=True))
        return {token: index for index, (token, its) in pairs if its in kinds and token}


def _from_alphabet(text: str) -> bytes:
    try:
        return bytes([_ALPHABET[character] for character in text])
    except KeyError:
        return text.encode()


def stop_tokens(control: dict[str, int], *ends: Iterable[int | None]) -> tuple[int, ...]:
    """What ends an answer: `ends` in order, then every control token whose name says so."""
    known = [control.get(text) for text in ANSWER_ENDS]
    all_ends = [end for group in (*ends, known) for end in group]
    return tuple(dict.fromkeys(end for end in all_ends if end is not None))

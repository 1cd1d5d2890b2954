"""Tokens that a model folder adds to a vocabulary, and which of them are control tokens."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from tokenizers import AddedToken, Tokenizer

from tokenworks.inference.text.vocabulary import MAX_TOKENS, TokenKind


class AddedEntry(msgspec.Struct, frozen=True):
    """An added token as tokenizer.json and tokenizer_config.json write it."""

    content: str
    id: int = -1
    special: bool = False
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None

    def matched_in_text(self) -> AddedToken:
        return AddedToken(
            self.content,
            single_word=self.single_word,
            lstrip=self.lstrip,
            rstrip=self.rstrip,
            normalized=not self.special if self.normalized is None else self.normalized,
            special=False,
        )


@dataclass(frozen=True)
class Listing:
    """A vocabulary's tokens by id with their kinds, and the added ones among them by id."""

    texts: list[str]
    kinds: list[int]
    added: Mapping[int, AddedEntry]

    def vocab(self) -> dict[str, int]:
        """Ids of what a text may become. An id that stands for no token is not among them."""
        readable = (TokenKind.NORMAL, TokenKind.USER_DEFINED, TokenKind.BYTE)
        pairs = enumerate(zip(self.texts, self.kinds, strict=True))
        return {text: index for index, (text, kind) in pairs if kind in readable}

    def hidden(self) -> set[str]:
        """What no text may become."""
        kinds = (TokenKind.CONTROL, TokenKind.UNKNOWN)
        pairs = zip(self.texts, self.kinds, strict=True)
        return {text for text, kind in pairs if kind in kinds}

    def strips(self, side: str) -> frozenset[int]:
        """Added tokens that take the white space on this side along: "lstrip" or "rstrip"."""
        return frozenset(index for index, entry in self.added.items() if getattr(entry, side))

    def let_match(self, tokenizer: Tokenizer) -> None:
        """Have the tokenizer find the user-defined tokens in text, in the order of their ids."""
        found = [i for i, kind in enumerate(self.kinds) if kind == TokenKind.USER_DEFINED]
        plain = (AddedEntry(self.texts[index], normalized=False) for index in found)
        entries = (self.added.get(i, entry) for i, entry in zip(found, plain, strict=True))
        tokenizer.add_tokens([entry.matched_in_text() for entry in entries])


def listing(
    texts: Sequence[str],
    kinds: Sequence[int],
    added: Mapping[int, AddedEntry],
    special: Collection[str],
    unknown: int | None,
) -> Listing:
    """Tokens by id, `added` ones over the others; what is `special` anywhere is a control token.

    Ids that nobody names are unused. Raises ValueError for an id out of all proportion.
    """
    highest = max(added, default=-1)
    if min(added, default=0) < 0 or highest >= MAX_TOKENS:
        raise ValueError(f"an added token has the id {highest}, beyond {MAX_TOKENS}")
    missing = max(0, highest + 1 - len(texts))
    all_texts = [*texts, *[""] * missing]
    all_kinds = [*kinds, *[int(TokenKind.UNUSED)] * missing]
    for index, entry in added.items():
        all_texts[index] = entry.content
        control = entry.special and entry.content
        all_kinds[index] = TokenKind.CONTROL if control else TokenKind.USER_DEFINED
    for index, text in enumerate(all_texts):
        if text in special:
            all_kinds[index] = TokenKind.CONTROL
    if unknown is not None:
        all_kinds[unknown] = TokenKind.UNKNOWN
    return Listing(all_texts, all_kinds, added)

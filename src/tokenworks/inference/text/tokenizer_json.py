"""Reads tokenizer.json, the format of the `tokenizers` library.

Its parts are handed to the library one by one rather than as a whole: the model gets a vocabulary
without the control tokens, so that no text can become one.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tokenizers import Tokenizer

from tokenworks.inference.text.added_tokens import AddedEntry, Listing, listing
from tokenworks.inference.text.files import parse_json, read_json
from tokenworks.inference.text.frame import Frame, frame
from tokenworks.inference.text.json_models import MODELS, ModelEntry
from tokenworks.inference.text.library import assembled
from tokenworks.inference.text.text_steps import check_steps, nodes
from tokenworks.inference.text.vocabulary import (
    BYTE_TOKENS,
    MAX_TOKENS,
    SPACE,
    Spelling,
    TokenKind,
)

_NOTHING = msgspec.Raw(b"null")


class _File(msgspec.Struct):
    model: ModelEntry
    added_tokens: list[AddedEntry] = []
    normalizer: msgspec.Raw = _NOTHING
    pre_tokenizer: msgspec.Raw = _NOTHING
    post_processor: msgspec.Raw = _NOTHING
    decoder: msgspec.Raw = _NOTHING


@dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer.json that was read and whose parts fit each other, not yet built."""

    model: ModelEntry
    kind: str
    added: Mapping[int, AddedEntry]
    spelling: Spelling
    normalizer: object
    pre_tokenizer: object
    post_processor: object

    def listing(self, added: Mapping[int, AddedEntry], control: Collection[str]) -> Listing:
        """All tokens. `added` are the folder's, besides the file's; `control` what it names so."""
        texts, unknown = self._texts()
        if self.kind == "BPE" and unknown is not None and texts[unknown] in control:
            unknown = None  # what the model does not know must not end its text
        kinds = [self._kind(text) for text in texts]
        return listing(texts, kinds, {**added, **self.added}, control, unknown)

    def frame(self, size: int) -> Frame:
        return frame(self.post_processor, size)

    def build(self, tokens: Listing) -> Tokenizer:
        """The encoder of plain text. Raises plain Exception where the library refuses a part."""
        parts = assembled(self.normalizer, self.pre_tokenizer)
        tokenizer = Tokenizer(MODELS[self.kind](self.model, tokens))
        if parts.normalizer is not None:
            tokenizer.normalizer = parts.normalizer
        if parts.pre_tokenizer is not None:
            tokenizer.pre_tokenizer = parts.pre_tokenizer
        tokens.let_match(tokenizer)
        return tokenizer

    def _kind(self, text: str) -> int:
        if not text:
            return TokenKind.UNUSED
        spelt_byte = self.spelling is Spelling.SENTENCEPIECE and text in BYTE_TOKENS
        return TokenKind.BYTE if spelt_byte and self.model.byte_fallback else TokenKind.NORMAL

    def _texts(self) -> tuple[list[str], int | None]:
        """The model's tokens by id, and the id of its unknown token."""
        vocab = self.model.vocab
        if isinstance(vocab, list):
            unk_id = self.model.unk_id
            if unk_id is not None and not 0 <= unk_id < len(vocab):
                raise ValueError(f"its unknown token {unk_id} is none of {len(vocab)}")
            return [text for text, _ in vocab], unk_id
        size = max(vocab.values(), default=-1) + 1
        if size > MAX_TOKENS or min(vocab.values(), default=0) < 0:
            raise ValueError(f"a token's id is not one of 0 to {MAX_TOKENS - 1}")
        texts = [""] * size
        for text, index in vocab.items():
            texts[index] = text
        unknown = self.model.unk_token
        return texts, None if unknown is None else vocab.get(unknown)


def read_tokenizer_json(path: Path) -> TokenizerFile:
    """Raises ModelFileError, naming the file, if it is malformed or holds what is not supported.

    Raises ValueError, not naming it, for parts that do not fit each other.
    """
    file = read_json(path, _File)

    def part(raw: msgspec.Raw) -> object:
        return parse_json(path, raw, object)

    normalizer, pre_tokenizer = part(file.normalizer), part(file.pre_tokenizer)
    check_steps(normalizer, pre_tokenizer)
    kind = _kind_of(file.model)
    return TokenizerFile(
        model=file.model,
        kind=kind,
        added={entry.id: entry for entry in file.added_tokens},
        spelling=_spelling(kind, part(file.decoder), pre_tokenizer),
        normalizer=normalizer,
        pre_tokenizer=pre_tokenizer,
        post_processor=part(file.post_processor),
    )


def _kind_of(model: ModelEntry) -> str:
    """The model's type; old files do not say."""
    guess = "Unigram" if isinstance(model.vocab, list) else "BPE" if model.merges else "WordPiece"
    kind = model.type or guess
    if kind not in MODELS:
        raise ValueError(f"model {kind!r} is not supported; supported: {', '.join(MODELS)}")
    if (kind == "Unigram") != isinstance(model.vocab, list):
        raise ValueError(f"the vocabulary does not fit the model {kind!r}")
    return kind


def _spelling(kind: str, decoder: object, pre_tokenizer: object) -> Spelling:
    """How tokens are spelt, by the decoder; by what else is there if the file has none."""
    steps = list(nodes(decoder)) or list(nodes(pre_tokenizer))
    types = {step.get("type") for step in steps}
    if "ByteLevel" in types:
        return Spelling.BYTE_LEVEL
    replaces = any(step.get("pattern") == {"String": SPACE} for step in steps)
    metaspace = any(step.get("replacement") == SPACE for step in steps)
    if metaspace or replaces or "ByteFallback" in types:
        return Spelling.SENTENCEPIECE
    if kind in ("WordPiece", "WordLevel") and types <= {None, "WordPiece"} | _NO_SPELLING:
        return Spelling.WORDPIECE
    raise ValueError(f"decoder {sorted(map(str, types))} is not supported")


_NO_SPELLING = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Sequence", "Punctuation"}

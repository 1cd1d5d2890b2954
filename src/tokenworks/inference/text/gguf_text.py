"""The tokenizer and chat template of a GGUF file.

Source of the keys and their defaults: llama.cpp, llama-vocab.cpp (`llama_vocab::impl::load`).
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from tokenizers import AddedToken, Tokenizer

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.gguf import GGUF
from tokenworks.inference.text.byte_level import byte_level_bpe
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.gguf_tokens import TokenTable, read_tokens
from tokenworks.inference.text.library import failures_as
from tokenworks.inference.text.pre_tokenizers import WORDS
from tokenworks.inference.text.sentencepiece import Pieces, bpe_by_scores, unigram
from tokenworks.inference.text.template import ChatTemplate
from tokenworks.inference.text.vocabulary import (
    CONTINUES,
    SPACE,
    Spelling,
    TokenKind,
    Vocabulary,
    stop_tokens,
)
from tokenworks.inference.text.wordpiece import wordpiece

_TEXT_KINDS = (TokenKind.NORMAL, TokenKind.USER_DEFINED)


def codec_of_gguf(gguf: GGUF, *, now: Callable[[], datetime] = datetime.now) -> TextCodec:
    """The codec that a model file describes. `now` is the clock for templates that ask for it.

    Raises ModelFileError, naming the file, for a tokenizer that is malformed or of a kind that is
    not supported.
    """
    table = read_tokens(gguf)
    build = _BUILDERS[table.choice("tokenizer.ggml.model", tuple(_BUILDERS), default="")]
    with failures_as(lambda problem: table.error(f"bad tokenizer: {problem}")):
        vocabulary, tokenizer = build(table)
        tokenizer.add_tokens(
            [AddedToken(t, normalized=False) for t in vocabulary.of_kind(TokenKind.USER_DEFINED)]
        )
    source = gguf.metadata.get("tokenizer.chat_template")
    try:
        template = ChatTemplate(source, now) if isinstance(source, str) else None
    except ModelFileError as problem:
        raise table.error(problem.message) from None
    return TextCodec(vocabulary, tokenizer, template)


def _vocabulary(
    table: TokenTable,
    spelling: Spelling,
    *,
    bos: int | None,
    eos: int | None,
    adds_bos: bool,
    adds_eos: bool = False,
) -> Vocabulary:
    """`adds_bos` and `adds_eos` are what a file of this kind means that does not say."""
    begins = bos is not None and table.flag("add_bos_token", adds_bos)
    ends = eos is not None and table.flag("add_eos_token", adds_eos)
    vocabulary = Vocabulary(table.texts, table.kinds, spelling, bos=bos, eos=eos)
    turn_ends = [eos, table.token_id("eot"), table.token_id("eom")]
    return replace(
        vocabulary,
        begin=(bos,) if begins and bos is not None else (),
        end=(eos,) if ends and eos is not None else (),
        stop_tokens=stop_tokens(vocabulary.of_kind(TokenKind.CONTROL), turn_ends),
    )


def _byte_level(table: TokenTable) -> tuple[Vocabulary, Tokenizer]:
    words = WORDS[table.choice("tokenizer.ggml.pre", tuple(WORDS), default="default")]
    bos, eos = table.token_id("bos"), table.token_id("eos")
    vocabulary = _vocabulary(table, Spelling.BYTE_LEVEL, bos=bos, eos=eos, adds_bos=words.adds_bos)
    vocab = vocabulary.of_kind(*_TEXT_KINDS)
    return vocabulary, byte_level_bpe(vocab, table.merges(), vocabulary.control, words)


def _bpe_by_scores(table: TokenTable) -> tuple[Vocabulary, Tokenizer]:
    table = table.with_unknown(0)
    bos, eos = table.token_id("bos", 1), table.token_id("eos", 2)
    vocabulary = _vocabulary(table, Spelling.SENTENCEPIECE, bos=bos, eos=eos, adds_bos=True)
    return vocabulary, bpe_by_scores(_pieces(table))


def _unigram(table: TokenTable) -> tuple[Vocabulary, Tokenizer]:
    table = table.with_unknown(2)
    bos, eos = table.token_id("bos"), table.token_id("eos", 1)
    vocabulary = _vocabulary(
        table, Spelling.SENTENCEPIECE, bos=bos, eos=eos, adds_bos=False, adds_eos=True
    )
    return vocabulary, unigram(_pieces(table))


def _pieces(table: TokenTable) -> Pieces:
    return Pieces(
        texts=table.texts,
        scores=table.scores(),
        kinds=table.kinds,
        space_prefix=table.flag("add_space_prefix", True),
        trims_spaces=table.flag("remove_extra_whitespaces", False),
        charsmap=table.raw_bytes("precompiled_charsmap"),
    )


def _wordpiece(table: TokenTable) -> tuple[Vocabulary, Tokenizer]:
    table = table.with_unknown(100)
    if TokenKind.UNKNOWN not in table.kinds:
        raise table.error("a WordPiece tokenizer without an unknown token")
    first = table.token_id("cls", table.token_id("bos", 101))
    last = table.token_id("seperator", 102)  # the format's own spelling
    tokens = [
        _bert_spelling(text) if kind == TokenKind.NORMAL else text
        for text, kind in zip(table.texts, table.kinds, strict=True)
    ]
    vocabulary = Vocabulary(
        tokens=tokens,
        kinds=table.kinds,
        spelling=Spelling.WORDPIECE,
        bos=first,
        eos=last,
        begin=() if first is None else (first,),
        end=() if last is None else (last,),
        stop_tokens=() if last is None else (last,),
    )
    lowercase = table.flag("normalizer.lowercase", True)
    tokenizer = wordpiece(
        vocabulary.of_kind(*_TEXT_KINDS),
        table.kinds.index(TokenKind.UNKNOWN),
        lowercase=lowercase,
        strip_accents=table.flag("normalizer.strip_accents", lowercase),
    )
    return vocabulary, tokenizer


def _bert_spelling(text: str) -> str:
    """BERT's own spelling: GGUF files mark what begins a word, BERT marks what goes on."""
    if text.startswith(SPACE):
        return text[1:]
    return text if text.startswith("[") and text.endswith("]") else CONTINUES + text


_BUILDERS: dict[str, Callable[[TokenTable], tuple[Vocabulary, Tokenizer]]] = {
    "gpt2": _byte_level,
    "llama": _bpe_by_scores,
    "bert": _wordpiece,
    "t5": _unigram,
}
"""Every supported `tokenizer.ggml.model`."""

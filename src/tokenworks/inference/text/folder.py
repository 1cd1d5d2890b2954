"""The tokenizer and chat template of a Hugging Face model folder.

Source of the files' meaning: transformers, tokenization_utils_base.py and
tokenization_utils_tokenizers.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tokenizers import Tokenizer

from tokenworks.errors import ModelFileError
from tokenworks.inference.text.added_tokens import Listing, listing
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.files import file_error, read_bytes, read_text
from tokenworks.inference.text.folder_settings import FolderSettings, read_settings
from tokenworks.inference.text.frame import Frame
from tokenworks.inference.text.library import failures_as
from tokenworks.inference.text.sentencepiece import Pieces, bpe_by_scores, unigram
from tokenworks.inference.text.sentencepiece_file import BPE, parse_sentencepiece
from tokenworks.inference.text.template import ChatTemplate
from tokenworks.inference.text.tokenizer_json import read_tokenizer_json
from tokenworks.inference.text.vocabulary import (
    MAX_TOKENS,
    Spelling,
    TokenKind,
    Vocabulary,
    stop_tokens,
)
from tokenworks.inference.text.wordpiece import wordpiece


def codec_of_folder(folder: Path, *, now: Callable[[], datetime] = datetime.now) -> TextCodec:
    """The codec of a model folder. `now` is the clock for templates that ask for it.

    Takes the first of tokenizer.json, tokenizer.model (SentencePiece) and vocab.txt (BERT) that
    there is. Raises ModelFileError, naming the file, for what is missing, malformed or not
    supported.
    """
    settings = read_settings(folder)
    vocabulary, tokenizer = read_vocabulary(tokenizer_file(folder), settings)
    return TextCodec(vocabulary, tokenizer, _template(folder, settings, now))


def tokenizer_file(folder: Path) -> Path:
    """The file that describes the tokenizer. Raises ModelFileError if there is none."""
    path = next((folder / name for name in _READERS if (folder / name).exists()), None)
    if path is None:
        raise ModelFileError(
            f"Model folder '{folder}' has no tokenizer",
            hint=f"it needs one of: {', '.join(_READERS)}",
        )
    return path


def read_vocabulary(path: Path, settings: FolderSettings) -> tuple[Vocabulary, Tokenizer]:
    """What such a file holds. Raises ModelFileError, naming it, if it is no good."""
    with failures_as(lambda problem: file_error(path, f"is no good tokenizer: {problem}")):
        built = _READERS[path.name](path, settings)
        return _vocabulary(built, settings), built.tokenizer


@dataclass(frozen=True)
class _Built:
    tokens: Listing
    spelling: Spelling
    tokenizer: Tokenizer
    frame: Frame
    bos: int | None = None  # what the vocabulary's own file names, where the folder names none
    eos: int | None = None


def _from_json(path: Path, settings: FolderSettings) -> _Built:
    file = read_tokenizer_json(path)
    tokens = file.listing(settings.added, settings.control)
    return _Built(tokens, file.spelling, file.build(tokens), file.frame(len(tokens.texts)))


def _from_sentencepiece(path: Path, settings: FolderSettings) -> _Built:
    """Llama's and Gemma's: a token begins a text unless the folder says otherwise."""
    file = parse_sentencepiece(read_bytes(path))
    size = len(file.pieces.texts)
    # What the file has as a piece it spells itself: only whether it is special is news.
    added = {i: entry for i, entry in settings.added.items() if i >= size or entry.special}
    unknown = file.pieces.unknown
    tokens = listing(file.pieces.texts, file.pieces.kinds, added, settings.control, unknown)
    lowest = min(file.pieces.scores)
    pieces = Pieces(
        texts=tokens.texts,
        scores=[*file.pieces.scores, *[lowest] * (len(tokens.texts) - size)],
        kinds=tokens.kinds,
        space_prefix=file.pieces.space_prefix,
        trims_spaces=file.pieces.trims_spaces,
        charsmap=file.pieces.charsmap,
    )
    tokenizer = (bpe_by_scores if file.algorithm == BPE else unigram)(pieces)
    tokens.let_match(tokenizer)
    begin = () if file.bos is None else (file.bos,)
    return _Built(tokens, Spelling.SENTENCEPIECE, tokenizer, (begin, ()), file.bos, file.eos)


def _from_word_list(path: Path, settings: FolderSettings) -> _Built:
    """BERT's: one token a line."""
    texts = read_text(path).removesuffix("\n").split("\n")
    if len(texts) > MAX_TOKENS:
        raise ValueError(f"more than {MAX_TOKENS} tokens")
    texts = [text.removesuffix("\r") for text in texts]
    names = {**_BERT_NAMES, **settings.named}
    ids = {text: index for index, text in enumerate(texts)}
    unknown, first, last = (ids.get(names[f"{name}_token"]) for name in ("unk", "cls", "sep"))
    if unknown is None:
        raise ValueError(f"it has no token {names['unk_token']}")
    control = settings.control | {text for name, text in names.items() if name != "unk_token"}
    kinds = [TokenKind.NORMAL if text else TokenKind.UNUSED for text in texts]
    tokens = listing(texts, kinds, settings.added, control, unknown)
    tokenizer = wordpiece(
        tokens.vocab(),
        unknown,
        lowercase=settings.config.do_lower_case,
        strip_accents=settings.config.strip_accents,
        cuts_chinese=settings.config.tokenize_chinese_chars,
    )
    tokens.let_match(tokenizer)
    begin = () if first is None else (first,)
    return _Built(tokens, Spelling.WORDPIECE, tokenizer, (begin, () if last is None else (last,)))


_BERT_NAMES = {
    f"{name.lower()}_token": f"[{name}]" for name in ("UNK", "SEP", "PAD", "CLS", "MASK")
}
_READERS: dict[str, Callable[[Path, FolderSettings], _Built]] = {
    "tokenizer.json": _from_json,
    "tokenizer.model": _from_sentencepiece,
    "vocab.txt": _from_word_list,
}


def _vocabulary(built: _Built, settings: FolderSettings) -> Vocabulary:
    tokens = built.tokens
    ids = {text: index for index, text in enumerate(tokens.texts)}
    bos = ids.get(settings.named.get("bos_token", ""), built.bos)
    eos = ids.get(settings.named.get("eos_token", ""), built.eos)
    begin, end = settings.framed(built.frame, bos, eos)
    control = {text: ids[text] for text in tokens.hidden()}
    known_ends = [end for end in settings.ends if 0 <= end < len(tokens.texts)]
    return Vocabulary(
        tokens=tokens.texts,
        kinds=tokens.kinds,
        spelling=built.spelling,
        bos=bos,
        eos=eos,
        begin=begin,
        end=end,
        stop_tokens=stop_tokens(control, [eos, *known_ends]),
        strips_left=tokens.strips("lstrip"),
        strips_right=tokens.strips("rstrip"),
    )


def _template(
    folder: Path, settings: FolderSettings, now: Callable[[], datetime]
) -> ChatTemplate | None:
    if settings.template is None:
        return None
    try:
        return ChatTemplate(settings.template, now)
    except ModelFileError as problem:
        raise ModelFileError(f"Model folder '{folder}': {problem.message}") from None

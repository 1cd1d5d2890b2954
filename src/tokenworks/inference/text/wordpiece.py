"""Builds WordPiece as BERT has it: longest match first within words cut at spaces and punctuation.

Source: google-research/bert, tokenization.py.
"""

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from tokenworks.inference.text.vocabulary import CONTINUES

_LONGEST_WORD = 100  # characters; a longer one is unknown


def wordpiece(
    vocab: dict[str, int],
    unknown: int,
    *,
    lowercase: bool = True,
    strip_accents: bool | None = None,
    cuts_chinese: bool = True,
) -> Tokenizer:
    """An encoder into `vocab`, where `##` begins what goes on within a word.

    The unknown token is spelt "", so that no text can spell it. `strip_accents` None follows
    `lowercase`; `cuts_chinese` makes each Chinese character a word.
    """
    model = WordPiece(
        vocab={**vocab, "": unknown},
        unk_token="",
        max_input_chars_per_word=_LONGEST_WORD,
        continuing_subword_prefix=CONTINUES,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = BertNormalizer(
        clean_text=True,
        handle_chinese_chars=cuts_chinese,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer

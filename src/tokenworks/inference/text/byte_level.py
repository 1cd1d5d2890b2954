"""Builds byte-level BPE: the tokenizers of GPT-2, Llama 3, Qwen and many others in GGUF files."""

from collections.abc import Collection, Iterable

from tokenizers import Tokenizer
from tokenizers.models import BPE

from tokenworks.inference.text.pre_tokenizers import Words


def byte_level_bpe(
    vocab: dict[str, int], merges: Iterable[tuple[str, str]], hidden: Collection[str], words: Words
) -> Tokenizer:
    """An encoder into `vocab` (GPT-2's byte alphabet), by merges in order of preference.

    Merges that touch a `hidden` token are left out. Raises plain Exception for any other merge
    that does not fit the vocabulary.
    """
    kept = without(merges, hidden)
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=kept, ignore_merges=words.whole_words))
    tokenizer.pre_tokenizer = words.pre_tokenizer()
    normalizer = words.normalizer()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    return tokenizer


def without(
    merges: Iterable[tuple[str, str]], hidden: Collection[str], prefix: str = ""
) -> list[tuple[str, str]]:
    """The merges that neither make nor use a hidden token; `prefix` marks a token that goes on."""
    return [
        (left, right)
        for left, right in merges
        if left not in hidden
        and right not in hidden
        and left + right.removeprefix(prefix) not in hidden
    ]

"""How byte-level BPE cuts text into words before merging, by what a GGUF file calls it.

Source of the names and of what each means: llama.cpp, llama-vocab.cpp (`llm_tokenizer_bpe`); the
patterns are those of the models' own tokenizer.json that it cites. Qwen's normalisation, which GGUF
files do not mention, is transformers' (models/qwen2, models/qwen3_5).
"""

from dataclasses import dataclass
from typing import Final

from tokenizers import Regex
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

_SPACES: Final = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTION: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORD: Final = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
_SYMBOLS: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
_LLAMA3: Final = _CONTRACTION + _WORD + r"|\p{N}{1,3}" + _SYMBOLS + _SPACES
_QWEN2: Final = _CONTRACTION + _WORD + r"|\p{N}" + _SYMBOLS + _SPACES
_QWEN35: Final = (
    _CONTRACTION
    + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    + _SPACES
)
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CAPITALS: Final = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_CASED: Final = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+"
_PATHS: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*"
_TEKKEN: Final = rf"{_CASED}|{_CAPITALS}|\p{{N}}" + _PATHS + _SPACES
_GPT4O: Final = (
    rf"{_CASED}{_CONTRACTION}?|{_CAPITALS}{_CONTRACTION}?|\p{{N}}{{1,3}}" + _PATHS + _SPACES
)
_DEEPSEEK3: Final = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*" + _SPACES
)


@dataclass(frozen=True)
class Words:
    """Text is cut at every match of the first pattern, then each piece at the second's, and so on.

    `whole_words` are looked up before anything is merged (`ignore_merges`); `adds_bos` is what a
    file means that does not say; `composes` normalises to NFC first.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    adds_bos: bool = False
    composes: bool = False

    def pre_tokenizer(self) -> PreTokenizer:
        splits: list[PreTokenizer] = [Split(Regex(p), "isolated") for p in self.patterns]
        return Sequence([*splits, ByteLevel(add_prefix_space=False, use_regex=False)])

    def normalizer(self) -> NFC | None:
        return NFC() if self.composes else None


_KINDS: Final[dict[tuple[str, ...], Words]] = {
    ("default",): Words((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
    ("gpt-2", "phi-2", "mpt", "olmo", "exaone4", "modern-bert", "roberta-bpe"): Words((_GPT2,)),
    ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"): Words(
        (r"\p{N}", _GPT2)
    ),
    ("falcon",): Words((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]")),
    ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"): Words(
        (_LLAMA3,), whole_words=True, adds_bos=True
    ),
    ("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"): Words((_LLAMA3,)),
    ("qwen2", "deepseek-r1-qwen"): Words((_QWEN2,), composes=True),
    ("stablelm2", "hunyuan", "megrez"): Words((_QWEN2,)),
    ("qwen35",): Words((_QWEN35,), composes=True),
    ("tekken",): Words((_TEKKEN,), whole_words=True, adds_bos=True),
    ("gpt-4o", "llama4"): Words((_GPT4O,)),
    ("deepseek-coder",): Words(
        (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}")
    ),
    ("deepseek-v3",): Words((r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK3)),
}
WORDS: Final = {name: words for names, words in _KINDS.items() for name in names}
"""Every supported `tokenizer.ggml.pre`."""

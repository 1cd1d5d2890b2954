"""Small tokenizers of every family, trained on the spot, as model folders and as GGUF metadata."""

import json
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, processors, trainers
from tokenizers import pre_tokenizers as pre
from tokenizers.models import BPE, Unigram, WordLevel, WordPiece
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges

from tokenworks.inference.models.gguf_writer import Writable

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog says: it's 1234 o'clock!",
    "Ein Bär, zwei Bären: überall Äpfel.  Two  spaces,\tone tab\nand a new line\n\n",
    "El niño comió piñas; ¿qué más? Déjà vu à la façade.",
    "日本語のテキストと中文的文字，还有标点。",
    "Здравствуй, мир! Это проверка текста.",
    "def main(arguments):\n    return [x ** 2 for x in arguments if x != 17]\n",
] * 4
WORD = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Llama 3's."""
TURNS = ("<|start|>", "<|end|>")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TOOL = "<tool>"
"""A token that text may become."""


def with_added(tokenizer: Tokenizer, *special: str) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    tokenizer.add_tokens([AddedToken(TOOL, normalized=False)])
    return tokenizer


def framed(tokenizer: Tokenizer, begin: str, end: str | None = None) -> Tokenizer:
    names = [name for name in (begin, end) if name]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end or ''}".strip(),
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in names],
    )
    return tokenizer


def byte_level() -> Tokenizer:
    """As Llama 3's and Qwen's."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre.Sequence(
        [pre.Split(Regex(WORD), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return framed(with_added(tokenizer, "<s>", *TURNS), "<s>")


def sentencepiece_vocabulary() -> tuple[dict[str, int], list[float]]:
    """Pieces by id with their scores: control tokens, bytes, then what was learnt."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False, limit_alphabet=60)
    tokenizer.train_from_iterator(CORPUS, trainer)
    learnt = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    texts = ["<unk>", "<s>", "</s>", *BYTES, *learnt]
    scores = [0.0] * (3 + len(BYTES)) + [-float(index) for index in range(len(learnt))]
    return {text: index for index, text in enumerate(texts)}, scores


def by_scores() -> Tokenizer:
    """BPE by scores with byte fallback; transformers finds the merges."""
    vocab, scores = sentencepiece_vocabulary()
    pieces = dict(zip(vocab, scores, strict=True))
    merges = generate_merges(vocab, pieces, skip_tokens={"<unk>", "<s>", "</s>", *BYTES})
    model = BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return framed(with_added(tokenizer, "<unk>", "<s>", "</s>", *TURNS), "<s>")


def llama() -> Tokenizer:
    """As Llama 2's: a space before every text that follows a control token."""
    tokenizer = by_scores()
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer


def mistral() -> Tokenizer:
    """As Mistral's: a space before the first text alone."""
    tokenizer = by_scores()
    tokenizer.pre_tokenizer = pre.Metaspace(prepend_scheme="first", split=False)
    return tokenizer


def gemma() -> Tokenizer:
    """As Gemma's: no space before anything."""
    tokenizer = by_scores()
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre.Split(" ", "merged_with_previous")
    return tokenizer


def bert() -> Tokenizer:
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=special, show_progress=False, limit_alphabet=60
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return framed(tokenizer, "[CLS]", "[SEP]")


def xlm() -> Tokenizer:
    """Unigram as XLM-R has it."""
    tokenizer = Tokenizer(Unigram())
    spaces = [(" {2,}", " "), (r"\A +| +\z", "")]
    steps = [normalizers.Replace(Regex(pattern), content) for pattern, content in spaces]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>",
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    return framed(tokenizer, "<s>", "</s>")


def words() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]", "[END]"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


FAMILIES = {
    "byte level": (byte_level, {"bos_token": "<s>", "eos_token": "<|end|>"}),
    "llama": (llama, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "mistral": (mistral, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "gemma": (gemma, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "bert": (
        bert,
        {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"},
    ),
    "xlm": (xlm, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "words": (words, {"unk_token": "[UNK]", "eos_token": "[END]"}),
}


def save_folder(
    folder: Path, family: str, template: str | None = None, **settings: object
) -> PreTrainedTokenizerFast:
    """Write a model folder as transformers does; what transformers reads from it."""
    make, names = FAMILIES[family]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=make(), **names, **settings)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def gguf_metadata(tokenizer: Tokenizer, family: str) -> dict[str, Writable]:
    """What llama.cpp's converter writes for it."""
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    texts = sorted(vocab, key=lambda text: vocab[text])
    added = tokenizer.get_added_tokens_decoder()
    kinds = [_kind(text, added.get(index)) for index, text in enumerate(texts)]
    model = json.loads(tokenizer.to_str())["model"]
    keys: dict[str, Writable] = {"token_type": np.array(kinds, np.int32)}
    if family == "byte level":
        merges = [" ".join(pair) for pair in model["merges"]]
        keys |= {"model": "gpt2", "pre": "llama-bpe", "merges": merges}
    elif family == "bert":
        texts = [_bert_text(text) for text in texts]
        keys |= {"model": "bert", "cls_token_id": vocab["[CLS]"], "unknown_token_id": 1}
        keys |= {"seperator_token_id": vocab["[SEP]"]}
    elif family == "xlm":
        scores = [score for _, score in model["vocab"]]
        keys |= {"model": "t5", "scores": np.array(scores, np.float32), "add_bos_token": True}
        keys |= {"eos_token_id": vocab["</s>"], "remove_extra_whitespaces": True}
    else:
        scores = [0.0] * 259 + [-float(index) for index in range(len(texts) - 259)]
        keys |= {"model": "llama", "scores": np.array(scores, np.float32)}
        keys |= {"add_space_prefix": family != "gemma"}
    for name, text in {"bos": "<s>", "eos": "</s>"}.items():
        if text in vocab:
            keys[f"{name}_token_id"] = vocab[text]
    return {f"tokenizer.ggml.{name}": value for name, value in {"tokens": texts, **keys}.items()}


def _kind(text: str, added: AddedToken | None) -> int:
    if added is not None:
        return 2 if text in ("<unk>", "[UNK]") else 3 if added.special else 4
    return 6 if text in BYTES else 1


def _bert_text(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        return text
    return text[2:] if text.startswith("##") else "▁" + text

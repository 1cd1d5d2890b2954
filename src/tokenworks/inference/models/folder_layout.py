"""Which files make a model folder in Hugging Face's layout. Names only; nothing is opened."""

import re
from collections.abc import Collection
from typing import Final

from tokenworks.inference.models.malformed import Malformed

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
COMPANIONS: Final = (
    *("generation_config.json", "chat_template.jinja"),
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "added_tokens.json"),
    *("modules.json", "sentence_bert_config.json", "1_Pooling/config.json"),
)
"""What is taken along where it is there. No code and no pickles: neither is ever opened."""

_PICKLED: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.safetensors")


def weights_file(names: Collection[str]) -> str:
    """The file to start from, among a folder's `names`: the weights, or the index of their shards.

    A folder with both is read as its one file, as `transformers` does. Raises Malformed for a
    folder that is no model, or one that can only be read by running what is in it.
    """
    start = WEIGHTS if WEIGHTS in names else INDEX if INDEX in names else None
    if start and CONFIG in names:
        return start
    if start:
        raise Malformed(
            f"has no {CONFIG}, which says how its weights are computed with",
            hint=f"put the model's {CONFIG} beside {start}",
        )
    pickled = sorted(name for name in names if name.lower().endswith(_PICKLED))
    if pickled:
        raise Malformed(
            f"holds its weights in {pickled[0]!r} only; pickled weights are never opened, "
            "since they can run code",
            hint="look for the same model in safetensors",
        )
    raise Malformed(
        f"is no model: it has neither {WEIGHTS} nor {INDEX}",
        hint="see the models that can be pulled: tokenworks models list",
    )


def files_of(names: Collection[str], shards: Collection[str]) -> list[str]:
    """All files of a model: those that hold the weights, and what of `names` belongs to them.

    Raises Malformed if a shard is not among the names.
    """
    missing = sorted(set(shards).difference(names))
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise Malformed(
            f"lacks the shard {missing[0]!r}{more}",
            hint="fetch the model again: tokenworks models pull hf:OWNER/NAME",
        )
    index = [INDEX] if weights_file(names) == INDEX else []
    return [CONFIG, *index, *sorted(shards), *(name for name in COMPANIONS if name in names)]


def is_shard_name(name: str) -> bool:
    """Whether this may name a shard: a plain name, so that nothing outside its folder is read."""
    return _PLAIN_NAME.fullmatch(name) is not None

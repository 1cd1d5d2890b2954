"""What it takes to use the `tokenizers` library on parts that come from files.

It raises plain Exception; where its Rust code panics (a regular expression that backtracks beyond
its limit), a BaseException of its own.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tokenizers import Tokenizer

from tokenworks.errors import TokenworksError


@contextmanager
def failures_as(error: Callable[[str], TokenworksError]) -> Iterator[None]:
    """Raise what `error` makes of the library's message, whichever way the library fails."""
    try:
        yield
    except TokenworksError:
        raise
    except BaseException as problem:
        if not isinstance(problem, Exception) and type(problem).__name__ != "PanicException":
            raise
        raise error(str(problem)) from None


def assembled(normalizer: object, pre_tokenizer: object) -> Tokenizer:
    """A tokenizer with these parts, given as tokenizer.json has them, and no vocabulary."""
    model = {"type": "BPE", "vocab": {}, "merges": []}
    parts = {"model": model, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer}
    return Tokenizer.from_str(json.dumps({"version": "1.0", **parts}))


def continuing(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer for text that follows something: it puts no space before its first word.

    Shares the model's memory. Only Metaspace with the scheme "first" makes a difference.
    """
    if tokenizer.pre_tokenizer is None:
        return tokenizer
    state = json.loads(tokenizer.pre_tokenizer.__getstate__())
    changed = _without_first_space(state)
    if changed == state:
        return tokenizer
    other = Tokenizer(tokenizer.model)
    if tokenizer.normalizer is not None:
        other.normalizer = tokenizer.normalizer
    other.pre_tokenizer = assembled(None, changed).pre_tokenizer
    other.add_tokens([token for _, token in sorted(tokenizer.get_added_tokens_decoder().items())])
    return other


def _without_first_space(part: object) -> object:
    if isinstance(part, list):
        return [_without_first_space(item) for item in part]
    if not isinstance(part, dict):
        return part
    changed = {key: _without_first_space(value) for key, value in part.items()}
    if changed.get("type") == "Metaspace" and changed.get("prepend_scheme") == "first":
        changed["prepend_scheme"] = "never"
    return changed

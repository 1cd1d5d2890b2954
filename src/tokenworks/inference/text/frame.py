"""What a tokenizer.json's post-processor puts around a text, as token ids."""

from collections.abc import Iterator
from typing import Final

Frame = tuple[tuple[int, ...], tuple[int, ...]]
"""Tokens before and after a text."""

_NOTHING: Final[Frame] = ((), ())


def frame(processor: object, size: int) -> Frame:
    """What is put around one text. Raises ValueError for what is malformed or no token of `size`.

    Processors that change no tokens (ByteLevel's offsets) put nothing around.
    """
    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    for step in _steps(processor):
        before, after = _frame_of(step)
        begin, end = before + begin, end + after
    for token in (*begin, *end):
        if not isinstance(token, int) or not 0 <= token < size:
            raise ValueError(f"its post-processor names token {token!r} of {size}")
    return begin, end


def _steps(processor: object) -> Iterator[dict[str, object]]:
    """Processors in the order in which they apply."""
    if not isinstance(processor, dict):
        return
    nested = processor.get("processors")
    if processor.get("type") == "Sequence" and isinstance(nested, list):
        for step in nested:
            yield from _steps(step)
    else:
        yield processor


def _frame_of(step: dict[str, object]) -> Frame:
    try:
        if step.get("type") in ("BertProcessing", "RobertaProcessing"):
            return (step["cls"][1],), (step["sep"][1],)  # type: ignore[index]
        if step.get("type") == "TemplateProcessing":
            return _template(step["single"], step["special_tokens"])
    except (KeyError, IndexError, TypeError, AttributeError) as problem:
        raise ValueError(f"its post-processor is malformed: {problem!r}") from None
    return _NOTHING


def _template(pieces: object, special: object) -> Frame:
    sides: list[list[int]] = [[]]
    for piece in pieces:  # type: ignore[attr-defined]
        if "Sequence" in piece:
            sides.append([])
        else:
            sides[-1] += special[piece["SpecialToken"]["id"]]["ids"]  # type: ignore[index]
    begin, *rest = sides
    return tuple(begin), tuple(token for side in rest for token in side)

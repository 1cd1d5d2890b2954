"""What an output repeats of itself, and a prompt of those before it."""

from collections.abc import Iterable, Iterator, Sequence

GRAM = 8


def repeated_share(outputs: Iterable[Sequence[int]]) -> float:
    """The share of all outputs' 8-grams of tokens that were seen before in the same output: a
    small model that loops flatters speculation."""
    repeated = total = 0
    for tokens in outputs:
        seen: set[tuple[int, ...]] = set()
        for start in range(len(tokens) - GRAM + 1):
            gram = tuple(tokens[start : start + GRAM])
            repeated += gram in seen
            total += 1
            seen.add(gram)
    return repeated / max(1, total)


def reusable(prompts: Sequence[Sequence[int]]) -> Iterator[int]:
    """For each prompt in turn, how many of its first tokens begin an earlier one too; never all of
    them, since the last one's answer has to be computed."""
    seen: set[int] = set()
    for prompt in prompts:
        beginning, known, on_track = 0, 0, True
        for token in prompt:
            beginning = hash((beginning, token))
            on_track = on_track and beginning in seen
            known += on_track
            seen.add(beginning)
        yield min(known, len(prompt) - 1)

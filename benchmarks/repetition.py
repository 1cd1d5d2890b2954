"""How much outputs repeat themselves: a small model that loops flatters speculation."""

from collections.abc import Iterable, Sequence

GRAM = 8


def repeated_share(outputs: Iterable[Sequence[int]]) -> float:
    """The share of all outputs' 8-grams of tokens that were seen before in the same output."""
    repeated = total = 0
    for tokens in outputs:
        seen: set[tuple[int, ...]] = set()
        for start in range(len(tokens) - GRAM + 1):
            gram = tuple(tokens[start : start + GRAM])
            repeated += gram in seen
            total += 1
            seen.add(gram)
    return repeated / max(1, total)

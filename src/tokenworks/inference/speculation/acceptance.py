"""How often guesses of each kind were right: for all sequences together, and for each by itself."""

_MEMORY = 256.0
"""Roughly how many guesses count; older ones fade."""

_COMMON_WEIGHT = 6.0
"""What is known of all sequences counts as much as this many guesses of one."""

_UNKNOWN = 0.3
"""The chance of a kind of which nothing is known, worth `_UNKNOWN_WEIGHT` guesses."""

_UNKNOWN_WEIGHT = 2.0


class Acceptance:
    """Chances by kind of guess. `common` is where one sequence's chances start from."""

    def __init__(self, kinds: int, common: "Acceptance | None" = None) -> None:
        self._right = [0.0] * kinds
        self._tried = [0.0] * kinds
        self._common = common

    def chance(self, kind: int) -> float:
        """The chance in (0, 1) that the next guess of this kind is right."""
        if self._common is None:
            before, weight = _UNKNOWN, _UNKNOWN_WEIGHT
        else:
            before, weight = self._common.chance(kind), _COMMON_WEIGHT
        return (self._right[kind] + before * weight) / (self._tried[kind] + weight)

    def share(self, kinds: range, before: float) -> float:
        """How many guesses of all these kinds are right; `before` any were made, that many."""
        right = sum(self._right[kind] for kind in kinds) + before * _COMMON_WEIGHT
        return right / (sum(self._tried[kind] for kind in kinds) + _COMMON_WEIGHT)

    def record(self, kind: int, right: bool) -> None:
        """A guess of this kind turned out right or wrong."""
        if self._tried[kind] >= _MEMORY:
            self._tried[kind] /= 2
            self._right[kind] /= 2
        self._tried[kind] += 1
        self._right[kind] += right
        if self._common is not None:
            self._common.record(kind, right)

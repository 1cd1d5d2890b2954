"""How many rows a forward may have, so that it takes no longer than it should. Pure."""

from dataclasses import dataclass

from tokenworks.inference.forward_cost import ForwardCost

FEWEST_ROWS = 16
"""Prompt rows that a forward may have however long it takes: prompts always get on."""

FEWEST_UNWATCHED = 64
UNWATCHED = 3.0
"""While no answer is read, only newcomers wait for a forward: it may take so many times as long,
and has rows enough to cost little each."""

SLOWED = 1.5
"""Where answers alone take most of what a forward may, or more, prompts may make it so many times
as long as they do: a large model's prompts would else be read 16 rows at a time."""


def attended(start: int, rows: int) -> int:
    """Tokens that the rows from token number `start` on attend to, summed over them."""
    return rows * start + rows * (rows + 1) // 2


@dataclass(slots=True)
class RowBudget:
    """The rows of a forward that is being put together.

    `stall_s`: how long it may take while answers are read, in seconds, unless they themselves take
    about as long. `answers_s`: what their rows take by themselves.
    """

    cost: ForwardCost
    most: int
    stall_s: float
    rows: int = 0
    context: int = 0
    prompt_rows: int = 0
    answers_s: float = 0.0

    def decode(self, rows: int, context: int) -> None:
        """Add the rows of the answers that are read; they attend to so many tokens together."""
        self.rows += rows
        self.context += context
        self.answers_s = self.cost.seconds(self.rows, self.context)

    @property
    def watched(self) -> bool:
        """Whether somebody waits for the next token of an answer."""
        return self.rows > self.prompt_rows

    @property
    def open(self) -> bool:
        """Whether a further row of a prompt fits."""
        if self.rows >= self.most:
            return False
        return self.prompt_rows < self._fewest or self._fits(0, 1)

    def take(self, start: int, wanted: int, *, leave_half: bool = False) -> int:
        """Add as many of the rows from number `start` of a sequence on as there is time for, at
        most `wanted`; of fewer than that, half if the rest is left to others. Returns how many."""
        limit = min(wanted, self.most - self.rows)
        rows = max(self._fitting(start, limit), min(limit, self._fewest - self.prompt_rows))
        if leave_half and rows < wanted:
            rows = (rows + 1) // 2
        self.rows += rows
        self.prompt_rows += rows
        self.context += attended(start, rows)
        return rows

    @property
    def _fewest(self) -> int:
        return FEWEST_ROWS if self.watched else FEWEST_UNWATCHED

    def _fits(self, start: int, rows: int) -> bool:
        seconds = self.cost.seconds(self.rows + rows, self.context + attended(start, rows))
        return seconds <= self._limit_s

    @property
    def _limit_s(self) -> float:
        if not self.watched:
            return self.stall_s * UNWATCHED
        return max(self.stall_s, self.answers_s * SLOWED)

    def _fitting(self, start: int, limit: int) -> int:
        """The most rows up to `limit` with which the forward is within its time."""
        if self._fits(start, limit):
            return limit
        low, high = 0, limit - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self._fits(start, middle):
                low = middle
            else:
                high = middle - 1
        return low

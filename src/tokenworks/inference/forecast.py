"""When a request that comes now would get its first token, and when a place becomes free. Pure."""

from dataclasses import dataclass

from tokenworks.inference.row_budget import RowBudget

_REMEMBERED = 32
"""Answers whose mean length counts, about."""


class AnswerLengths:
    """How long answers become: what they may take at most says little."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self._seen = 0

    @property
    def mean(self) -> float | None:
        """In tokens; None until one has ended."""
        return self._mean

    def record(self, tokens: int) -> None:
        self._seen = min(self._seen + 1, _REMEMBERED)
        before = self._mean or 0.0
        self._mean = before + (tokens - before) / self._seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What an engine holds when a request comes.

    `decoding`: answers that grow, and `attended`: the tokens that they attend to together.
    `running`: requests with a place, of `places`. `ahead`: requests that get one before it does.
    `prompt_rows`: rows of prompts that are computed before its own.
    """

    places: int
    running: int = 0
    decoding: int = 0
    attended: int = 0
    ahead: int = 0
    prompt_rows: int = 0


def first_token_s(
    backlog: Backlog,
    prompt_rows: int,
    budget: RowBudget,
    answer_tokens: float | None,
) -> float:
    """Seconds until the first token of a prompt with so many rows to be computed.

    `budget` is an empty forward's. Answers end after `answer_tokens`; while nobody knows, every
    place counts as free.
    """
    decode_s, rows, seconds = _forwards(backlog, budget)
    to_read = backlog.prompt_rows + prompt_rows
    over = max(0, backlog.running + backlog.ahead + 1 - backlog.places)
    ends_s = over * decode_s * (answer_tokens or 0.0) / backlog.places
    return max(to_read * seconds / rows, ends_s + to_read * (seconds - decode_s) / rows)


def place_s(backlog: Backlog, budget: RowBudget, answer_tokens: float | None) -> float:
    """Seconds until one more request has an end; 0 while nobody knows how long answers become."""
    decode_s, _, _ = _forwards(backlog, budget)
    return decode_s * (answer_tokens or 0.0) / backlog.places


def _forwards(backlog: Backlog, budget: RowBudget) -> tuple[float, int, float]:
    """Seconds of a forward of answers alone; rows of prompts beside them, and seconds then."""
    budget.decode(backlog.decoding, backlog.attended)
    decode_s = budget.answers_s
    rows = budget.take(0, budget.most)
    return decode_s, max(1, rows), budget.cost.seconds(budget.rows, budget.context)

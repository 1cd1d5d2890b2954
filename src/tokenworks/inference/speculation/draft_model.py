"""A second, smaller model of the same vocabulary: it reads along and says how it would go on.

It draws with the random number that the model's own draw will have: the two choose alike more often
than its likeliest token is drawn, and what is drawn in the end is what it would have been.
(Draft models: Leviathan et al. 2023.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import EngineError
from tokenworks.inference.executors.base import Batch, Executor, Span
from tokenworks.inference.forward_cost import ForwardCost
from tokenworks.inference.messages import Sampling
from tokenworks.inference.pages import PagePool, PageTable
from tokenworks.inference.row_budget import attended
from tokenworks.inference.sampler import choose
from tokenworks.inference.speculation.sources import MODEL_KINDS, Guess
from tokenworks.telemetry.clock import Clock

_PAID_BACK = 32
"""Reading what was written before, as a prompt, pays over so many forwards."""

_FEWEST_ROWS = 16
"""Rows that a forward reads however long it takes."""


class Followed(Protocol):
    """What is to be known of a sequence. `allowed`: tokens that its answer may still take."""

    request_id: str
    tenant: str
    tokens: list[int]
    sampling: Sampling
    table: PageTable

    @property
    def generated(self) -> int: ...

    @property
    def allowed(self) -> int: ...


@dataclass(slots=True)
class _Reading:
    """How far one text is read: its first `computed` tokens, of which those from `known` on were
    only guessed. The table is open once any had to be computed."""

    table: PageTable
    computed: int
    known: int = 0
    guessed: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Rows:
    """The tokens of a text that one forward reads, from number `start` on."""

    table: PageTable
    start: int
    tokens: list[int]
    completes: bool


class DraftModel:
    """Has so many KV pages of its own: where they do not suffice, a text goes without guesses. Of
    what it has not read yet, it reads as much at a time as takes `stall_s`, about. `vocabulary` is
    that of the model whose tokens it guesses; either may have a few more that no text has."""

    def __init__(
        self,
        executor: Executor,
        *,
        vocabulary: int,
        pages: int,
        most_rows: int,
        stall_s: float,
        clock: Clock,
    ) -> None:
        executor.allocate(pages)
        self._executor = executor
        self._vocabulary = vocabulary
        self._pool = PagePool(pages)
        self._most_rows = most_rows
        self._stall_s = stall_s
        self._clock = clock
        self._cost = ForwardCost()
        self._readings: dict[str, _Reading] = {}
        self.measured = False
        """Whether it was ever run, so that what it takes is known."""

    def follow(self, texts: Sequence[Followed]) -> None:
        """These texts are written now: what was read of others, which have ended or wait, is given
        back, and stays known as long as there are pages."""
        names = {text.request_id for text in texts}
        for gone in self._readings.keys() - names:
            self._readings.pop(gone).table.release()
        for text in texts:
            if text.request_id not in self._readings:
                own = text.table
                table = PageTable(self._pool, own.capacity, text.tenant, own.public)
                known = table.match(text.tokens).tokens
                self._readings[text.request_id] = _Reading(table, known, len(text.tokens))

    def seconds(self, texts: Sequence[Followed]) -> tuple[float, float]:
        """What the first guess after each of these texts should take, and each further one."""
        context = sum(len(text.tokens) for text in texts)
        each = self._cost.seconds(len(texts), context)
        behind = sum(
            len(text.tokens) - _computed(self._readings[text.request_id], text.tokens)
            for text in texts
        )
        catching_up = self._cost.seconds(max(behind, len(texts)), context) - each
        return each + catching_up / _PAID_BACK, each

    def guesses(
        self,
        texts: Sequence[Followed],
        steps: int,
        chance: Callable[[int], float],
        least_chance: float,
    ) -> tuple[list[list[Guess]], float]:
        """Up to `steps` guesses after each text that is followed, fewer where it is not read to its
        end yet, and where their `chance` (by kind) together falls below the least one; and the
        seconds that it took."""
        started = self._clock.now()
        found: list[list[Guess]] = [[] for _ in texts]
        chances = [1.0] * len(texts)
        going = self._read(texts)
        while going:
            logits = self._forward([rows for _, rows in going])
            complete = [each for each in going if each[1].completes]
            further = []
            for row, (place, rows) in zip(logits, complete, strict=True):
                guess = _draw(row, texts[place], len(found[place]))
                if guess is None:
                    continue
                found[place].append(guess)
                chances[place] *= chance(guess[1])
                if len(found[place]) < steps and chances[place] >= least_chance:
                    further.append((place, rows))
            going = self._go_on(texts, further, found)
        for text, guesses in zip(texts, found, strict=True):
            reading = self._readings[text.request_id]
            if len(reading.table.pages):
                reading.guessed = [token for token, _ in guesses]
                reading.table.computed(text.tokens, min(reading.computed, reading.known))
        return found, self._clock.now() - started

    def check_integrity(self) -> None:
        """Assert that every page is accounted for."""
        self._pool.check_integrity([reading.table for reading in self._readings.values()])

    def _read(self, texts: Sequence[Followed]) -> list[tuple[int, _Rows]]:
        """The rows of a first forward: what is not read yet of each text, as far as rows go."""
        left, going = self._rows_in_time(sum(len(text.tokens) for text in texts)), []
        for place, text in enumerate(texts):
            reading = self._readings[text.request_id]
            if not (left and self._open(reading, text)):
                continue
            start = reading.computed
            tokens = text.tokens[start : start + left]
            if max(tokens) >= self._executor.vocabulary_size:
                continue
            left -= len(tokens)
            reading.computed += len(tokens)
            completes = reading.computed == len(text.tokens)
            going.append((place, _Rows(reading.table, start, tokens, completes)))
        return going

    def _rows_in_time(self, context: int) -> int:
        rows = self._most_rows
        while rows > _FEWEST_ROWS and self._cost.seconds(rows, context) > self._stall_s:
            rows //= 2
        return rows

    def _open(self, reading: _Reading, text: Followed) -> bool:
        """Take pages for all tokens of a text; False if there are too few, or if it is too long."""
        if len(text.tokens) >= self._executor.context_length:
            return False
        if len(reading.table.pages) == 0:
            computed = reading.table.open(text.tokens)
            if computed is None:
                return False
            reading.computed = computed
        else:
            reading.computed = _computed(reading, text.tokens)
        reading.known, reading.guessed = len(text.tokens), []
        return reading.table.room(0, len(text.tokens)) >= len(text.tokens)

    def _go_on(
        self, texts: Sequence[Followed], places: list[tuple[int, _Rows]], found: list[list[Guess]]
    ) -> list[tuple[int, _Rows]]:
        """The rows of a forward that reads the newest guess of each."""
        going = []
        for place, rows in places:
            text, start = texts[place], rows.start + len(rows.tokens)
            too_long = start + 1 >= self._executor.context_length
            if len(found[place]) >= text.allowed or too_long or not rows.table.room(start, 1):
                continue  # no page, or nothing that could be written there
            self._readings[text.request_id].computed += 1
            going.append((place, _Rows(rows.table, start, [found[place][-1][0]], True)))
        return going

    def _forward(self, rows: Sequence[_Rows]) -> NDArray[np.float32]:
        """Logits of the last row of each that completes its text."""
        for copy in self._pool.take_copies():
            self._executor.copy_rows(copy.source, copy.target, copy.rows)
        ends = np.cumsum([len(each.tokens) for each in rows])
        wanted = [end - 1 for end, each in zip(ends, rows, strict=True) if each.completes]
        started = self._clock.now()
        logits = self._executor.forward(
            Batch(
                tokens=np.concatenate([np.array(each.tokens, np.int32) for each in rows]),
                spans=tuple(
                    Span(start=each.start, length=len(each.tokens), pages=each.table.pages)
                    for each in rows
                ),
                logit_rows=np.array(wanted, np.int32),
            )
        )
        context = sum(attended(each.start, len(each.tokens)) for each in rows)
        self._cost.record(int(ends[-1]), context, self._clock.now() - started)
        self.measured = True
        return logits[:, : self._vocabulary]


def _draw(logits: NDArray[np.float32], text: Followed, further: int) -> Guess | None:
    """The token that these logits give for the answer's next place but `further`; None if they are
    no numbers."""
    try:
        token, likeliest = choose(logits, text.sampling, text.generated + further)
    except EngineError:
        return None
    weights = np.exp(logits - logits[likeliest])
    share = float(weights[token]) / float(weights.sum())
    return token, MODEL_KINDS[min(int(share * len(MODEL_KINDS)), len(MODEL_KINDS) - 1)]


def _computed(reading: _Reading, tokens: list[int]) -> int:
    """How many of a text's tokens are read, guesses that were right included; never its last one,
    whose row tells what follows."""
    right = 0
    for guess, token in zip(reading.guessed, tokens[reading.known :], strict=False):
        if guess != token:
            break
        right += 1
    return min(reading.computed, reading.known + right, len(tokens) - 1)

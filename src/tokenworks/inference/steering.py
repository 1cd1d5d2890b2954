"""What a request changes about a row of logits: penalties, biases and a least length.

Knows one sequence's tokens; knows no batch, no executor and no drawing. The order is vLLM's: biases
and the least length, then the repetition penalty, then the frequency and presence penalties.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.messages import Sampling

_FIRST_CAPACITY = 64


class Steering:
    """The changes of one sequence, kept up with its tokens.

    A pure function of the sampling parameters and the tokens, so a sequence that is resumed
    elsewhere goes on the same. Only logits of tokens that occurred, are biased or would end the
    answer too early are touched: nothing here is as long as the vocabulary.
    """

    def __init__(self, sampling: Sampling, prompt: Iterable[int], generated: Iterable[int]) -> None:
        self._sampling = sampling
        self._slot_of: dict[int, int] = {}
        self._ids = np.empty(_FIRST_CAPACITY, np.intp)
        self._bias = np.empty(_FIRST_CAPACITY, np.float32)
        self._count = np.empty(_FIRST_CAPACITY, np.float32)  # in the answer so far
        self._seen = np.empty(_FIRST_CAPACITY, np.bool_)  # in the prompt or the answer
        self._repeats = sampling.repetition_penalty != 1.0
        self._counts = sampling.frequency_penalty != 0.0 or sampling.presence_penalty != 0.0
        for token, bias in sampling.logit_bias:
            slot = self._slot(token)  # first, for the arrays may grow
            self._bias[slot] = bias
        ends = sampling.stop_tokens if sampling.min_tokens else ()
        self._ends = np.array([self._slot(token) for token in ends], np.intp)
        if self._repeats:
            for token in prompt:
                slot = self._slot(token)
                self._seen[slot] = True
        for token in generated:
            self.add(token)

    def add(self, token: int) -> None:
        """The answer goes on with this token."""
        if self._repeats or self._counts:
            slot = self._slot(token)
            self._seen[slot] = True
            self._count[slot] += 1

    @contextmanager
    def applied(self, logits: NDArray[np.float32], index: int) -> Iterator[None]:
        """Within it, `logits` [vocabulary] are those to draw token `index` of the answer from.

        They are changed in place and put back afterwards: a copy costs more than the changes.
        """
        ids = self._ids[: len(self._slot_of)]
        before = logits[ids]
        with np.errstate(over="ignore", invalid="ignore"):  # what is no number is found later
            changed = self._changed(before, index)
        logits[ids] = changed
        try:
            yield
        finally:
            logits[ids] = before

    def _changed(self, values: NDArray[np.float32], index: int) -> NDArray[np.float32]:
        sampling, used = self._sampling, len(self._slot_of)
        values = values + self._bias[:used]
        if index < sampling.min_tokens:
            values[self._ends] = -np.inf
        if self._repeats:
            penalty = np.float32(sampling.repetition_penalty)
            penalised = np.where(values > 0, values / penalty, values * penalty)
            values = np.where(self._seen[:used], penalised, values)
        if self._counts:
            count = self._count[:used]
            values -= np.float32(sampling.frequency_penalty) * count
            values -= np.float32(sampling.presence_penalty) * (count > 0)
        return values

    def _slot(self, token: int) -> int:
        slot = self._slot_of.get(token)
        if slot is None:
            slot = self._slot_of[token] = len(self._slot_of)
            if slot == len(self._ids):
                self._grow()
            self._ids[slot], self._bias[slot] = token, 0.0
            self._count[slot], self._seen[slot] = 0.0, False
        return slot

    def _grow(self) -> None:
        """Twice the room; what is behind the used slots is set when a slot is taken."""
        capacity = 2 * len(self._ids)
        self._ids = np.resize(self._ids, capacity)
        self._bias = np.resize(self._bias, capacity)
        self._count = np.resize(self._count, capacity)
        self._seen = np.resize(self._seen, capacity)


def steering_of(
    sampling: Sampling, prompt: Iterable[int], generated: Iterable[int]
) -> Steering | None:
    """None if the request leaves the model's logits as they are, as most do."""
    steers = (
        sampling.repetition_penalty != 1.0
        or sampling.frequency_penalty != 0.0
        or sampling.presence_penalty != 0.0
        or sampling.min_tokens > 0
        or len(sampling.logit_bias) > 0
    )
    return Steering(sampling, prompt, generated) if steers else None

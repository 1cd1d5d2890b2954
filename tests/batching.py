"""A machine that is made up: each row takes a millisecond. A batcher on it, and an executor."""

import math
from typing import Any

from numpy.typing import NDArray

from tokenworks.inference.batcher import Batcher
from tokenworks.inference.executors.base import Batch
from tokenworks.inference.executors.scripted import ScriptedExecutor
from tokenworks.inference.forward_cost import KNOTS, ForwardCost
from tokenworks.inference.messages import Sampling
from tokenworks.inference.pages import PagePool, PageTable, pages_for
from tokenworks.inference.sequence import Sequence
from tokenworks.telemetry.clock import ManualClock

ROW_S = 0.001


def make_batcher(
    *,
    pages: int = 64,
    max_sequences: int = 4,
    max_batch_tokens: int = 32,
    stall_s: float = math.inf,
) -> Batcher:
    cost = ForwardCost()
    for rows in KNOTS:
        cost.record(rows, 0, ROW_S * rows)
    return Batcher(PagePool(pages), max_sequences, max_batch_tokens, stall_s=stall_s, cost=cost)


def add(
    batcher: Batcher,
    name: str,
    prompt: list[int],
    max_tokens: int = 8,
    *,
    tenant: str = "",
    public: int = 0,
    **more: Any,
) -> Sequence:
    sequence = Sequence(
        request_id=name,
        prompt_length=len(prompt),
        tokens=list(prompt),
        sampling=Sampling(max_tokens=max_tokens),
        tenant=tenant,
        table=PageTable(batcher.pool, pages_for(len(prompt) + max_tokens), tenant, public),
        **more,
    )
    batcher.add(sequence)
    return sequence


def run(batcher: Batcher) -> list[tuple[str, int]]:
    """Run one batch, a token 1 following wherever a sequence is complete, until max_tokens."""
    chunks = batcher.plan()
    complete = [chunk.sequence for chunk in chunks if chunk.completes]
    for chunk in chunks:
        batcher.advance(chunk)
    for sequence in complete:
        sequence.tokens.append(1)
        if sequence.generated == sequence.sampling.max_tokens:
            batcher.remove(sequence)
    return [(chunk.sequence.request_id, chunk.length) for chunk in chunks]


class TimedExecutor(ScriptedExecutor):
    """Moves the clock by what each forward takes, and remembers how many rows it had."""

    def __init__(self, clock: ManualClock, context_length: int = 5000) -> None:
        super().__init__(context_length=context_length)
        self.clock = clock
        self.batches: list[int] = []

    def forward(self, batch: Batch) -> NDArray[Any]:
        self.batches.append(len(batch.tokens))
        self.clock.advance(ROW_S * len(batch.tokens))
        return super().forward(batch)

"""Decides which rows the next forward runs. Holds no weights, calls nothing, knows no socket.

There is no prefill phase and no decode phase. A sequence has tokens that are known (its prompt
and what was sampled) and tokens that are computed (their KV is in its pages); each batch lets the
computed ones catch up. A sequence with one token to go is decoding, one with more is prefilling;
chunked prefill, prefix sharing, preemption and resuming all follow from that.
(The idea is that of vLLM's V1 scheduler.)

Whose turn it is, is decided by `queueing` and, between tenants, `fairness`; how many rows a forward
may have, by `row_budget`.
"""

import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from itertools import count

from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.fairness import Shares
from tokenworks.inference.forward_cost import ForwardCost
from tokenworks.inference.pages import PagePool, pages_for
from tokenworks.inference.places import giving_way
from tokenworks.inference.queueing import Entry, Turns, Waiting, turn
from tokenworks.inference.row_budget import RowBudget, attended
from tokenworks.inference.sequence import Chunk, Sequence
from tokenworks.inference.sharing import coming

MOST_SCORED_ROWS = 64
"""Prompt rows that one forward gives logits for, at most: each is as long as the vocabulary."""


@dataclass(slots=True)
class Batcher:
    """`running`, in order of rank, own pages for all their known tokens; `waiting` own none.

    When no page is left for a further token, the newest of the lowest priority (a higher one ages)
    gives its pages up and waits again; its tokens stay, so its answer is the same, only later.

    While answers are read, a forward should take at most `stall_s` seconds, by what `cost` knows:
    so many rows of prompts go with it, but a few in any case (see `row_budget`).
    """

    pool: PagePool
    max_sequences: int
    max_batch_tokens: int  # at least max_sequences: every decoding sequence gets its row
    stall_s: float = math.inf
    cost: ForwardCost = field(default_factory=ForwardCost)
    shares: Shares = field(default_factory=Shares)
    running: list[Sequence] = field(default_factory=list)
    waiting: Waiting[Sequence] = field(default_factory=Waiting)
    preemptions: int = 0
    _numbers: Iterator[int] = field(default_factory=count)

    def __len__(self) -> int:
        return len(self.running) + len(self.waiting)

    def prompt_s(self, start: int, rows: int) -> float:
        """Seconds that rows of a prompt take among many, from number `start` on. Those behind a
        long beginning take longer: they attend to all of it."""
        cost, most = self.cost, self.max_batch_tokens
        looking_back = cost.seconds(1, attended(start, rows)) - cost.seconds(1)
        return rows * cost.seconds(most) / most + looking_back

    def budget(self) -> RowBudget:
        """That of a forward without any row yet."""
        return RowBudget(self.cost, self.max_batch_tokens, self.stall_s)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence that fits into the pool when it is alone."""
        sequence.number = next(self._numbers)
        self.shares.join(sequence.tenant)
        self._wait(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, whatever it was doing."""
        sequence.scored = None  # nobody need wait for its scores any more
        if sequence.runs:
            self._stop(sequence)
        else:
            self.waiting.remove(sequence.tenant, sequence.turn, sequence.number)
        self.shares.leave(sequence.tenant)

    def plan(self) -> list[Chunk]:
        """The next batch: decoding rows first, then as many of prompts as there is time for.

        Empty only if there is nothing to do. The caller runs it and then calls `advance`.
        """
        self._make_room()
        self.shares.settle()
        self._make_place()
        answers = [sequence for sequence in self.running if sequence.pending == 1]
        budget = self.budget()
        budget.decode(len(answers), sum(len(sequence.tokens) for sequence in answers))
        return [Chunk(sequence, 1) for sequence in answers] + self._prompts(budget)

    def advance(self, chunk: Chunk) -> None:
        """The KV of the chunk's known tokens is in place; its draft was computed too."""
        self._computed(chunk.sequence, chunk.length)
        self.shares.charge(chunk.sequence.tenant, chunk.rows)

    def confirm(self, sequence: Sequence) -> None:
        """The next token of the chunk's draft was right: its KV is in place too."""
        self._computed(sequence, 1)

    def _computed(self, sequence: Sequence, further: int) -> None:
        sequence.computed += further
        sequence.table.computed(sequence.tokens, sequence.computed)

    def _wait(self, sequence: Sequence) -> None:
        sequence.turn = self._turn(sequence)
        entry = (sequence.turn, sequence.number, sequence)
        self.waiting.add(sequence.tenant, entry)

    def _turn(self, sequence: Sequence) -> float:
        if sequence.generated:  # somebody reads: it goes on as soon as it can
            return sequence.due
        prompt_s = self.prompt_s(sequence.computed, sequence.pending)
        return turn(sequence.due, prompt_s, sequence.deadline)

    def _make_room(self) -> None:
        """Give every running sequence a page for its newest token."""
        position = 0
        while position < len(self.running):
            sequence = self.running[position]
            if sequence.table.grow(len(sequence.tokens)):
                position += 1
            else:
                self._preempt(self.running[-1])

    def _make_place(self) -> None:
        """If all places are taken, let one be given to who is next, if that is fair."""
        if len(self.running) < self.max_sequences or not self.waiting:
            return
        lines = (
            (self.shares[tenant], self.waiting.line(tenant)[0]) for tenant in self.waiting.tenants
        )
        _, (turn, _, asks) = min(lines)
        holder = giving_way(asks, turn, self.running, self.shares)
        if holder is None or coming(asks, self.running):
            return
        free = self.pool.free + len(holder.table.pages)
        if pages_for(len(asks.tokens)) + len(self.running) <= free:
            self._preempt(holder)

    def _preempt(self, sequence: Sequence) -> None:
        self._stop(sequence)
        self._wait(sequence)
        self.preemptions += 1

    def _stop(self, sequence: Sequence) -> None:
        """Take its pages and its place."""
        del self.running[bisect_left(self.running, sequence.rank, key=_rank)]
        sequence.table.release()
        sequence.computed = 0
        sequence.runs = False

    def _prompts(self, budget: RowBudget) -> list[Chunk]:
        """Rows of prompts until the budget is spent. Who waits gets a place when it gets rows."""
        admit = len(self.running) < self.max_sequences
        turns, begun = self._turns(admit=admit)
        chunks: Counter[Sequence] = Counter()
        scorable = MOST_SCORED_ROWS
        places = pages = 0  # kept for those who wait for what another computes, and let others past
        while turns and (admit or begun) and budget.open:
            sequence, rows = turns.next, 0
            served, end = sequence, len(sequence.tokens)
            if sequence.runs:
                begun -= 1
            elif admit and (awaited := coming(sequence, self.running)):
                keeps = not sequence.awaits_leader  # which needs the place itself
                places += keeps
                pages += keeps * (pages_for(len(sequence.tokens)) - awaited.tokens // PAGE_TOKENS)
                served, end = awaited.maker or sequence, awaited.tokens  # it lends its turn
            elif admit:
                # Who is next and does not fit keeps others back, or it would wait for ever.
                admit = self._start(sequence, places, pages)
            if served.runs and served.scoring:
                rows = budget.take(served.computed, min(served.pending, scorable))
                scorable -= rows
            elif served.runs:
                shorter = self._shorter_wait(served, chunks, admit=admit)
                start = served.computed + chunks[served]
                rows = budget.take(start, max(0, end - start), leave_half=shorter)
            if rows:
                chunks[served] += rows
            turns.give(rows)
        for sequence, rows in chunks.items():  # what was left to others and not taken
            if rows < sequence.pending and not sequence.scoring and budget.open:
                chunks[sequence] += budget.take(sequence.computed + rows, sequence.pending - rows)
        return [Chunk(sequence, rows) for sequence, rows in chunks.items()]

    def _shorter_wait(
        self, sequence: Sequence, served: Container[Sequence], *, admit: bool
    ) -> bool:
        """Whether a prompt with fewer rows left has not had its turn in this forward yet."""
        left = sequence.pending
        return any(1 < each.pending < left and each not in served for each in self.running) or (
            admit and any(each.pending < left for each in self.waiting)
        )

    def _turns(self, *, admit: bool) -> tuple[Turns[Sequence], int]:
        """Whose prompts could be computed, those that wait included, and how many are begun."""
        count = 0
        begun: dict[str, list[Entry[Sequence]]] = {}
        for sequence in self.running:
            if sequence.pending > 1:
                entry = (self._turn(sequence), sequence.number, sequence)
                begun.setdefault(sequence.tenant, []).append(entry)
                count += 1
        turns: Turns[Sequence] = Turns()
        for tenant in {*begun, *(self.waiting.tenants if admit else ())}:
            waiting = tuple(self.waiting.line(tenant)) if admit else ()
            turns.add(tenant, self.shares[tenant], begun.get(tenant, ()), waiting)
        return turns, count

    def _start(self, sequence: Sequence, places: int, pages: int) -> bool:
        """Give a waiting sequence a place and pages. Whether there were enough of both.

        Each that runs is left a page to grow into, or this one would soon have to give way.
        So many `places` and `pages` are kept for others.
        """
        if len(self.running) + places >= self.max_sequences:
            return False
        share, spare = not sequence.scoring, pages + len(self.running)
        computed = sequence.table.open(sequence.tokens, share=share, spare=spare)
        if computed is None:
            return False
        self.waiting.remove(sequence.tenant, sequence.turn, sequence.number)
        sequence.computed, sequence.runs = computed, True
        if sequence.cached is None:
            sequence.cached = min(computed, sequence.prompt_length)
        insort(self.running, sequence, key=_rank)
        return True

    def check_integrity(self) -> None:
        """Assert what must hold between two batches."""
        assert len(self.running) <= self.max_sequences
        assert self.running == sorted(self.running, key=_rank)
        self.pool.check_integrity([sequence.table for sequence in self.running])
        tenants = Counter(sequence.tenant for sequence in (*self.running, *self.waiting))
        assert tenants == self.shares.asking
        for sequence in self.running:
            assert sequence.runs
            assert 0 <= sequence.computed < len(sequence.tokens)
            assert len(sequence.table.pages) >= pages_for(sequence.computed)
        for sequence in self.waiting:
            assert not sequence.runs
            assert sequence.computed == 0
            assert len(sequence.table.pages) == 0


def _rank(sequence: Sequence) -> tuple[float, int]:
    return sequence.rank

"""Decides which rows the next forward runs. Holds no weights, calls nothing, knows no socket.

There is no prefill phase and no decode phase. A sequence has tokens that are known (its prompt
and what was sampled) and tokens that are computed (their KV is in its pages); each batch lets the
computed ones catch up. A sequence with one token to go is decoding, one with more is prefilling;
chunked prefill, prefix sharing, preemption and resuming all follow from that.
(The idea is that of vLLM's V1 scheduler.)
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.messages import Sampling
from tokenworks.inference.pages import PagePool, PageTable, pages_for
from tokenworks.inference.sharing import coming_tokens
from tokenworks.inference.steering import Steering

MOST_SCORED_ROWS = 64
"""Prompt rows that one forward gives logits for, at most: each is as long as the vocabulary."""


@dataclass(slots=True, eq=False, kw_only=True)
class Sequence:
    """The tokens of one request. `tokens` are known, the first `computed` have their KV in place.

    `resumed_at`: how many tokens of the answer came with the request. `cached`: prompt tokens whose
    KV was found rather than computed when the sequence first ran; None before. `leader`: whose
    prompt is this one's too; until that is scored, this one waits. `scored`: how many of the
    prompt's rows have given the score of the token after them; None if nobody asks.
    """

    request_id: str
    prompt_length: int
    resumed_at: int = 0
    tokens: list[int]
    sampling: Sampling
    table: PageTable
    computed: int = 0
    cached: int | None = None
    steering: Steering | None = None
    leader: "Sequence | None" = None
    scored: int | None = None
    tenant: str = ""

    @property
    def scoring(self) -> bool:
        """Whether rows of the prompt are still to be computed for their scores."""
        return self.scored is not None and self.scored < self.prompt_length - 1

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_length

    @property
    def remaining(self) -> int:
        """Rows that are still to be computed, if the answer takes all the tokens it may."""
        return self.pending + self.sampling.max_tokens - self.generated - 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compute `length` tokens of `sequence` from its `computed` one on."""

    sequence: Sequence
    length: int

    @property
    def completes(self) -> bool:
        """Whether the chunk ends at the last known token, so that the next can be sampled."""
        return self.length == self.sequence.pending

    @property
    def scored_rows(self) -> range:
        """The numbers of the tokens whose rows give scores; their logits are asked for."""
        sequence = self.sequence
        if sequence.scored is None:
            return range(0)
        end = min(sequence.computed + self.length, sequence.prompt_length - 1)
        return range(max(sequence.computed, sequence.scored), end)


@dataclass(slots=True)
class Batcher:
    """First come, first served, but that who waits for what another is computing lets others past.

    Who runs owns pages for all its known tokens. When none is left for a further token, the
    newest gives its pages up and goes back to the head of the queue; its tokens stay, so its
    answer is the same, only later.
    """

    pool: PagePool
    max_sequences: int
    max_batch_tokens: int  # at least max_sequences: every decoding sequence gets its row
    running: list[Sequence] = field(default_factory=list)
    waiting: deque[Sequence] = field(default_factory=deque)
    preemptions: int = 0

    def __len__(self) -> int:
        return len(self.running) + len(self.waiting)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence that fits into the pool when it is alone."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, whatever it was doing."""
        sequence.scored = None  # nobody need wait for its scores any more
        if sequence in self.running:
            self.running.remove(sequence)
            sequence.table.release()
        else:
            self.waiting.remove(sequence)

    def plan(self) -> list[Chunk]:
        """The next batch: decoding rows first, then prefill in order of arrival.

        Empty only if there is nothing to do. The caller runs it and then calls `advance`.
        """
        self._make_room()
        # Who has just given way does not fit again: it needs a page more than it gave up.
        self._admit()
        decoding = [Chunk(sequence, 1) for sequence in self.running if sequence.pending == 1]
        return decoding + self._prefill(self.max_batch_tokens - len(decoding))

    def advance(self, chunk: Chunk) -> None:
        """The chunk's KV is in place."""
        sequence = chunk.sequence
        sequence.computed += chunk.length
        sequence.table.computed(sequence.tokens, sequence.computed)

    def _make_room(self) -> None:
        """Give every running sequence a page for its newest token, oldest first."""
        position = 0
        while position < len(self.running):
            sequence = self.running[position]
            if sequence.table.grow(len(sequence.tokens)):
                position += 1
            else:
                self._preempt_newest()

    def _preempt_newest(self) -> None:
        sequence = self.running.pop()
        sequence.table.release()
        sequence.computed = 0
        self.waiting.appendleft(sequence)
        self.preemptions += 1

    def _admit(self) -> None:
        """Start waiting sequences while places, pages and rows of this batch last.

        Who waits for what another is computing keeps a place and pages while others go past.
        """
        budget = self.max_batch_tokens - sum(sequence.pending for sequence in self.running)
        kept = 0
        for sequence in list(islice(self.waiting, self.max_sequences - len(self.running))):
            if budget <= 0:
                return
            if coming := coming_tokens(sequence, self.running):
                kept += pages_for(len(sequence.tokens)) - coming // PAGE_TOKENS
                continue
            table, share = sequence.table, not sequence.scoring
            computed = table.open(sequence.tokens, share=share, spare=kept)
            if computed is None:
                return
            sequence.computed = computed
            if sequence.cached is None:
                sequence.cached = min(computed, sequence.prompt_length)
            self.waiting.remove(sequence)
            self.running.append(sequence)
            budget -= sequence.pending

    def _prefill(self, budget: int) -> list[Chunk]:
        chunks = []
        scorable = MOST_SCORED_ROWS
        for sequence in self.running:
            if budget <= 0:
                break
            if sequence.pending > 1:
                length = min(sequence.pending, budget)
                if sequence.scoring:
                    length = min(length, scorable)
                    scorable -= length
                if length:
                    chunks.append(Chunk(sequence, length))
                    budget -= length
        return chunks

    def check_integrity(self) -> None:
        """Assert what must hold between two batches."""
        assert len(self.running) <= self.max_sequences
        self.pool.check_integrity([sequence.table for sequence in self.running])
        for sequence in self.running:
            assert 0 <= sequence.computed < len(sequence.tokens)
            assert len(sequence.table.pages) >= pages_for(sequence.computed)
        for sequence in self.waiting:
            assert sequence.computed == 0
            assert len(sequence.table.pages) == 0

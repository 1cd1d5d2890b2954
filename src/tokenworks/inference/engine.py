"""The engine's loop: admit, batch, run, sample. Tokens in, tokens out, many requests at once.

Knows nothing about sockets, text or how logits are computed.
"""

import math
from dataclasses import dataclass, field
from itertools import zip_longest

import msgspec
import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import EngineError
from tokenworks.inference.admission import Limits, refusal
from tokenworks.inference.batcher import Batcher
from tokenworks.inference.executors.base import PAGE_TOKENS, Executor
from tokenworks.inference.forward import batch_of, next_token, scores_of, size_of
from tokenworks.inference.forward_cost import ForwardCost
from tokenworks.inference.guessing import Guessing
from tokenworks.inference.memory import page_count
from tokenworks.inference.messages import (
    Failed,
    Generate,
    Refused,
    Sampling,
    Scores,
    Step,
    Token,
)
from tokenworks.inference.pages import PagePool, PageTable, pages_for
from tokenworks.inference.promises import Promises, begun
from tokenworks.inference.sequence import Chunk, Sequence
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.speculation.draft_model import DraftModel
from tokenworks.inference.spill import Spill
from tokenworks.inference.steering import steering_of
from tokenworks.telemetry.clock import Clock


@dataclass(frozen=True, slots=True)
class Load:
    """What the engine holds at one moment."""

    running: int = 0
    waiting: int = 0
    pages_used: int = 0


@dataclass(slots=True)
class _Produced:
    """What one forward gave."""

    tokens: list[Token] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)


class Engine:
    """Owns the sequences and their page tables; one thread calls it.

    With a `spill`, it goes on with what an engine before it computed; with `draft`, that guesses.
    Raises ConfigError if the KV memory holds not even two pages.
    """

    def __init__(
        self,
        executor: Executor,
        settings: EngineSettings,
        clock: Clock,
        spill: Spill | None = None,
        draft: Executor | None = None,
    ) -> None:
        self.pages_total = page_count(executor.page_bytes, executor.context_length, settings)
        executor.allocate(self.pages_total)
        self._executor = executor
        self._clock = clock
        self._cost = ForwardCost()
        self._batcher = Batcher(
            PagePool(self.pages_total),
            settings.max_sequences,
            settings.max_batch_tokens,
            stall_s=settings.stall_ms / 1000 or math.inf,
            cost=self._cost,
        )
        self._spill = spill
        if spill is not None:
            spill.load(self._batcher.pool, executor)
        self._limits = Limits(
            vocabulary=executor.vocabulary_size,
            context_length=min(executor.context_length, self.pages_total * PAGE_TOKENS),
            # A worker that takes over from a dead one is given all of its requests at once.
            held=settings.max_sequences + settings.queue_limit,
            wait_s=settings.wait_limit_s or math.inf,
        )
        self._promises = Promises(self._batcher, self._limits)
        self._sequences: dict[str, Sequence] = {}
        draft_model = None
        if draft is not None:
            draft_model = DraftModel(
                draft,
                vocabulary=executor.vocabulary_size,
                pages=self.pages_total,
                most_rows=settings.max_batch_tokens,
                stall_s=self._batcher.stall_s,
                clock=clock,
            )
        self._guessing = Guessing(self._batcher, settings.speculation, draft_model)
        self._reported = Load()

    @property
    def context_length(self) -> int:
        """Most tokens of one request, prompt and answer: by the model, or by the KV memory."""
        return self._limits.context_length

    @property
    def model_length(self) -> int:
        """Most tokens of one request if only the KV memory were large enough."""
        return self._executor.context_length

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._sequences) or self._load() != self._reported

    def submit(self, request: Generate) -> Refused | None:
        """Queue a request with its siblings; None if it was taken.

        What `generated` holds is computed with the prompt, and sampling goes on after it.
        """
        ids = [request.request_id, *(sibling.request_id for sibling in request.siblings)]
        for number, used in enumerate(ids):
            if used in self._sequences or used in ids[:number]:
                return Refused(
                    request_id=request.request_id,
                    reason="invalid",
                    message=f"request id {used!r} is in use",
                )
        if refused := refusal(request, self._limits):
            return refused
        # An answer that some worker has begun goes on: whoever came meanwhile has to wait.
        if not begun(request) and (refused := self._promises.refusal(request, self._clock.now())):
            return refused
        self._add(request)
        return None

    def cancel(self, request_id: str) -> None:
        """Forget a request; unknown ids are ignored."""
        if sequence := self._sequences.pop(request_id, None):
            self._batcher.remove(sequence)

    def step(self) -> Step | None:
        """One forward: what it produced and the load after it; None if there was nothing to do."""
        if not self.busy:
            return None
        started = self._clock.now()
        hopeless = self._promises.broken(self._sequences.values(), started)
        for failed in hopeless:
            self.cancel(failed.request_id)
        chunks, guessing_s = self._guessing.drafted(self._batcher.plan())
        size = size_of(chunks)
        for copy in self._batcher.pool.take_copies():
            self._executor.copy_rows(copy.source, copy.target, copy.rows)
        produced = self._run(chunks) if chunks else _Produced()
        if chunks:
            self._cost.record(*size, self._clock.now() - started - guessing_s)
        self._reported = load = self._load()
        return Step(
            tokens=produced.tokens,
            scores=produced.scores,
            failed=hopeless + produced.failed,
            running=load.running,
            waiting=load.waiting,
            pages_used=load.pages_used,
            guessed=self._guessing.guessed,
            guessed_right=self._guessing.right,
            preempted=self._batcher.preemptions,
        )

    def save_one(self) -> bool:
        """Bring one page that is not in use to disk, where that is wanted; False if none is left.

        It takes milliseconds: for when there is nothing else to do.
        """
        return self._spill is not None and self._spill.save_one(self._batcher.pool, self._executor)

    def check_integrity(self) -> None:
        """Assert that every page is accounted for and every request is where it should be."""
        self._batcher.check_integrity()
        assert len(self._batcher) == len(self._sequences), "a request is lost or held twice"
        self._guessing.check_integrity()

    def _add(self, request: Generate) -> None:
        leader = self._enqueue(request, request.request_id, request.generated, request.sampling)
        # What has begun to answer was scored before.
        if request.score_prompt and not request.generated:
            leader.scored = 0
        for sibling in request.siblings:
            sampling = msgspec.structs.replace(request.sampling, seed=sibling.seed)
            follower = self._enqueue(request, sibling.request_id, sibling.generated, sampling)
            follower.leader = leader

    def _enqueue(
        self, request: Generate, request_id: str, generated: list[int], sampling: Sampling
    ) -> Sequence:
        total = len(request.prompt) + sampling.max_tokens
        sequence = self._sequences[request_id] = Sequence(
            request_id=request_id,
            tenant=request.tenant,
            prompt_length=len(request.prompt),
            resumed_at=len(generated),
            tokens=request.prompt + generated,
            sampling=sampling,
            table=PageTable(
                self._batcher.pool,
                capacity=pages_for(total),
                tenant=request.tenant,
                public=request.public_tokens,
            ),
            steering=steering_of(sampling, request.prompt, generated),
            priority=request.priority,
            arrived=self._clock.now(),
        )
        if (
            request.deadline_s is not None
            and request_id == request.request_id
            and not begun(request)
        ):
            sequence.deadline = sequence.arrived + request.deadline_s
        self._batcher.add(sequence)
        return sequence

    def _run(self, chunks: list[Chunk]) -> "_Produced":
        logits = self._executor.forward(batch_of(chunks))
        asked = [(chunk, chunk.scored_rows, chunk.completes) for chunk in chunks]
        for chunk in chunks:
            self._batcher.advance(chunk)
        produced = _Produced()
        row = 0
        for chunk, scored, completes in asked:
            sequence = chunk.sequence
            rows = logits[row : row + len(scored) + completes + len(chunk.draft)]
            row += len(rows)
            try:
                if scored:
                    produced.scores.append(scores_of(sequence, scored, rows[: len(scored)]))
                if completes:
                    self._answer(sequence, rows[len(scored) :], chunk.draft, produced)
            except EngineError as error:
                # One request's bad numbers must not end the others, nor this worker for ever.
                problem = Failed(request_id=sequence.request_id, message=error.message)
                produced.failed.append(problem)
                self.cancel(sequence.request_id)
        return produced

    def _answer(
        self,
        sequence: Sequence,
        rows: NDArray[np.float32],
        draft: tuple[int, ...],
        produced: "_Produced",
    ) -> None:
        """The next token, and those after it as far as the draft has them right: the row of a
        token that was guessed right is the one that would have been computed next."""
        self._guessing.guessed += len(draft)
        for row, guessed in zip_longest(rows, draft):
            token = next_token(sequence, row)
            produced.tokens.append(token)
            if token.finish_reason:
                self._finish(sequence)
                return
            if token.token != guessed:
                return
            self._guessing.right += 1
            self._batcher.confirm(sequence)

    def _finish(self, sequence: Sequence) -> None:
        self._guessing.ended(sequence)
        self._promises.ended(sequence)
        self.cancel(sequence.request_id)

    def _load(self) -> Load:
        batcher = self._batcher
        return Load(len(batcher.running), len(batcher.waiting), batcher.pool.used)

"""The engine's loop: admit, batch, run, sample. Tokens in, tokens out, many requests at once.

Knows nothing about sockets, text or how logits are computed.
"""

from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import EngineError
from tokenworks.inference.admission import Limits, queue_full, refusal
from tokenworks.inference.batcher import Batcher, Chunk, Sequence
from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Executor, Span
from tokenworks.inference.memory import page_count
from tokenworks.inference.messages import (
    Failed,
    FinishReason,
    Generate,
    Refused,
    Sampling,
    Score,
    Scores,
    Step,
    Token,
)
from tokenworks.inference.pages import PagePool, PageTable, pages_for
from tokenworks.inference.sampler import sample, score
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.spill import Spill
from tokenworks.inference.steering import steering_of
from tokenworks.telemetry.clock import Clock

_MEMORY_S = 10.0
"""The throughput that counts for `retry_after_s` is that of about this many seconds."""


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

    With a `spill`, it goes on with what an engine before it computed. Raises ConfigError if the KV
    memory holds not even two pages.
    """

    def __init__(
        self,
        executor: Executor,
        settings: EngineSettings,
        clock: Clock,
        spill: Spill | None = None,
    ) -> None:
        self.pages_total = page_count(executor.page_bytes, executor.context_length, settings)
        executor.allocate(self.pages_total)
        self._executor = executor
        self._clock = clock
        self._batcher = Batcher(
            PagePool(self.pages_total), settings.max_sequences, settings.max_batch_tokens
        )
        self._spill = spill
        if spill is not None:
            spill.load(self._batcher.pool, executor)
        self._limits = Limits(
            vocabulary=executor.vocabulary_size,
            context_length=min(executor.context_length, self.pages_total * PAGE_TOKENS),
            # A worker that takes over from a dead one is given all of its requests at once.
            held=settings.max_sequences + settings.queue_limit,
        )
        self._sequences: dict[str, Sequence] = {}
        self._throughput = _Throughput()
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
        begun = request.begun or bool(request.generated)
        if len(self._sequences) + len(ids) > self._limits.held and not begun:
            work = sum(sequence.remaining for sequence in self._sequences.values())
            rate = self._throughput.tokens_per_s
            return queue_full(request, self._limits, work=work, tokens_per_s=rate)
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
        chunks = self._batcher.plan()
        for copy in self._batcher.pool.take_copies():
            self._executor.copy_rows(copy.source, copy.target, copy.rows)
        produced = self._run(chunks) if chunks else _Produced()
        rows = sum(chunk.length for chunk in chunks)
        self._throughput.record(rows, self._clock.now() - started)
        self._reported = load = self._load()
        return Step(
            tokens=produced.tokens,
            scores=produced.scores,
            failed=produced.failed,
            running=load.running,
            waiting=load.waiting,
            pages_used=load.pages_used,
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
            tenant=request.tenant,
            steering=steering_of(sampling, request.prompt, generated),
        )
        self._batcher.add(sequence)
        return sequence

    def _run(self, chunks: list[Chunk]) -> "_Produced":
        logits = self._executor.forward(_batch(chunks))
        asked = [(chunk.sequence, chunk.scored_rows, chunk.completes) for chunk in chunks]
        for chunk in chunks:
            self._batcher.advance(chunk)
        produced = _Produced()
        row = 0
        for sequence, scored, completes in asked:
            rows = logits[row : row + len(scored) + completes]
            row += len(rows)
            try:
                if scored:
                    produced.scores.append(_scores(sequence, scored, rows[: len(scored)]))
                if completes:
                    self._deliver(_next_token(sequence, rows[-1]), produced)
            except EngineError as error:
                # One request's bad numbers must not end the others, nor this worker for ever.
                problem = Failed(request_id=sequence.request_id, message=error.message)
                produced.failed.append(problem)
                self.cancel(sequence.request_id)
        return produced

    def _deliver(self, token: Token, produced: "_Produced") -> None:
        produced.tokens.append(token)
        if token.finish_reason:
            self.cancel(token.request_id)

    def _load(self) -> Load:
        batcher = self._batcher
        return Load(len(batcher.running), len(batcher.waiting), batcher.pool.used)


def _batch(chunks: list[Chunk]) -> Batch:
    tokens: list[int] = []
    spans: list[Span] = []
    logit_rows: list[int] = []
    for chunk in chunks:
        sequence, start = chunk.sequence, chunk.sequence.computed
        tokens += sequence.tokens[start : start + chunk.length]
        spans.append(Span(start=start, length=chunk.length, pages=sequence.table.pages))
        end = len(tokens)
        first = end - chunk.length - start  # the batch's row of the sequence's token 0
        logit_rows += [first + number for number in chunk.scored_rows]
        if chunk.completes:
            logit_rows.append(end - 1)
    return Batch(
        tokens=np.array(tokens, np.int32),
        spans=tuple(spans),
        logit_rows=np.array(logit_rows, np.int32),
    )


def _scores(sequence: Sequence, numbers: range, rows: NDArray[np.float32]) -> Scores:
    """The scores of the tokens after those with these numbers, one a row."""
    wanted = sequence.sampling.logprobs or 0
    scores = []
    for number, row in zip(numbers, rows, strict=True):
        sampled = score(row, sequence.tokens[number + 1], wanted)
        assert sampled.logprob is not None
        scores.append(Score(sampled.logprob, sampled.alternatives))
    sequence.scored = numbers.stop
    return Scores(request_id=sequence.request_id, start=numbers.start + 1, scores=scores)


def _next_token(sequence: Sequence, logits: NDArray[np.float32]) -> Token:
    index = sequence.generated
    sampled = sample(logits, sequence.sampling, index, sequence.steering)
    sequence.tokens.append(sampled.token)
    if sequence.steering is not None:
        sequence.steering.add(sampled.token)
    return Token(
        request_id=sequence.request_id,
        token=sampled.token,
        finish_reason=_finish_reason(sequence),
        logprob=sampled.logprob,
        alternatives=sampled.alternatives,
        cached_tokens=sequence.cached if index == sequence.resumed_at else None,
    )


def _finish_reason(sequence: Sequence) -> FinishReason | None:
    if sequence.tokens[-1] in sequence.sampling.stop_tokens:
        return "stop"
    return "length" if sequence.generated >= sequence.sampling.max_tokens else None


class _Throughput:
    """Rows computed per second of work, the last seconds counting most."""

    def __init__(self) -> None:
        self._rows = 0.0
        self._seconds = 0.0

    @property
    def tokens_per_s(self) -> float:
        """0 until something was measured."""
        return self._rows / self._seconds if self._seconds > 0 else 0.0

    def record(self, rows: int, seconds: float) -> None:
        kept = max(0.0, 1.0 - seconds / _MEMORY_S)
        self._rows = self._rows * kept + rows
        self._seconds = self._seconds * kept + seconds

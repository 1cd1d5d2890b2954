"""The engine's loop: admit, batch, run, sample. Tokens in, tokens out, many requests at once.

Knows nothing about sockets, text or how logits are computed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import ConfigError, EngineError
from tokenworks.inference.admission import Limits, queue_full, refusal
from tokenworks.inference.batcher import Batcher, Chunk, Sequence
from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Executor, Span
from tokenworks.inference.messages import Failed, FinishReason, Generate, Refused, Step, Token
from tokenworks.inference.pages import PagePool, PageTable, pages_for
from tokenworks.inference.sampler import sample
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.clock import Clock

_MEMORY_S = 10.0
"""The throughput that counts for `retry_after_s` is that of about this many seconds."""

_FEWEST_PAGES = 2


@dataclass(frozen=True, slots=True)
class Load:
    """What the engine holds at one moment."""

    running: int = 0
    waiting: int = 0
    pages_used: int = 0


class Engine:
    """Owns the sequences and their page tables; one thread calls it.

    Raises ConfigError if the KV memory holds not even two pages.
    """

    def __init__(self, executor: Executor, settings: EngineSettings, clock: Clock) -> None:
        self.pages_total = page_count(executor, settings)
        executor.allocate(self.pages_total)
        self._executor = executor
        self._clock = clock
        self._batcher = Batcher(
            PagePool(self.pages_total), settings.max_sequences, settings.max_batch_tokens
        )
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
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._sequences) or self._load() != self._reported

    def submit(self, request: Generate) -> Refused | None:
        """Queue a request; None if it was taken.

        What `generated` holds is computed with the prompt, and sampling goes on after it.
        """
        if request.request_id in self._sequences:
            return Refused(
                request_id=request.request_id,
                reason="invalid",
                message=f"request id {request.request_id!r} is in use",
            )
        if refused := refusal(request, self._limits):
            return refused
        # An answer that some worker has begun goes on: whoever came meanwhile has to wait.
        if len(self._sequences) >= self._limits.held and not request.generated:
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
        tokens, failed = self._run(chunks) if chunks else ([], [])
        rows = sum(chunk.length for chunk in chunks)
        self._throughput.record(rows, self._clock.now() - started)
        self._reported = load = self._load()
        return Step(
            tokens=tokens,
            failed=failed,
            running=load.running,
            waiting=load.waiting,
            pages_used=load.pages_used,
        )

    def check_integrity(self) -> None:
        """Assert that every page is accounted for and every request is where it should be."""
        self._batcher.check_integrity()
        assert len(self._batcher) == len(self._sequences), "a request is lost or held twice"

    def _add(self, request: Generate) -> None:
        total = len(request.prompt) + request.sampling.max_tokens
        sequence = Sequence(
            request_id=request.request_id,
            prompt_length=len(request.prompt),
            resumed_at=len(request.generated),
            tokens=request.prompt + request.generated,
            sampling=request.sampling,
            table=PageTable(self._batcher.pool, capacity=pages_for(total)),
        )
        self._sequences[request.request_id] = sequence
        self._batcher.add(sequence)

    def _run(self, chunks: list[Chunk]) -> tuple[list[Token], list[Failed]]:
        complete = [chunk.sequence for chunk in chunks if chunk.completes]
        logits = self._executor.forward(_batch(chunks))
        for chunk in chunks:
            self._batcher.advance(chunk)
        tokens: list[Token] = []
        failed: list[Failed] = []
        for sequence, row in zip(complete, logits, strict=True):
            try:
                token = _next_token(sequence, row)
            except EngineError as error:
                # One request's bad numbers must not end the others, nor this worker for ever.
                failed.append(Failed(request_id=sequence.request_id, message=error.message))
                self.cancel(sequence.request_id)
            else:
                tokens.append(token)
                if token.finish_reason:
                    self.cancel(sequence.request_id)
        return tokens, failed

    def _load(self) -> Load:
        batcher = self._batcher
        return Load(len(batcher.running), len(batcher.waiting), batcher.pool.used)


def page_count(executor: Executor, settings: EngineSettings) -> int:
    """The pages that the KV memory holds, and no more than all sequences together can need.

    Raises ConfigError if that is too few to serve anything.
    """
    affordable = settings.kv_memory_mb * 2**20 // executor.page_bytes
    if affordable < _FEWEST_PAGES:
        needed = -(-_FEWEST_PAGES * executor.page_bytes // 2**20)
        raise ConfigError(
            f"kv_memory_mb {settings.kv_memory_mb} holds {affordable} pages of "
            f"{executor.page_bytes} bytes, fewer than {_FEWEST_PAGES}",
            hint=f"set kv_memory_mb to {needed} or more",
        )
    return min(affordable, settings.max_sequences * pages_for(executor.context_length))


def _batch(chunks: list[Chunk]) -> Batch:
    tokens: list[int] = []
    spans: list[Span] = []
    logit_rows: list[int] = []
    for chunk in chunks:
        sequence, start = chunk.sequence, chunk.sequence.computed
        tokens += sequence.tokens[start : start + chunk.length]
        spans.append(Span(start=start, length=chunk.length, pages=sequence.table.pages))
        if chunk.completes:
            logit_rows.append(len(tokens) - 1)
    return Batch(
        tokens=np.array(tokens, np.int32),
        spans=tuple(spans),
        logit_rows=np.array(logit_rows, np.int32),
    )


def _next_token(sequence: Sequence, logits: NDArray[np.float32]) -> Token:
    index = sequence.generated
    sampled = sample(logits, sequence.sampling, index)
    sequence.tokens.append(sampled.token)
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

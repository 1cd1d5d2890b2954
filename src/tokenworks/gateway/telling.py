"""Tells metrics and traces of requests that are over; of what was said only where that may be."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from tokenworks.accounts.keys import Key
from tokenworks.errors import TokenworksError
from tokenworks.gateway.backend import Chunk, Completion, Usage
from tokenworks.gateway.embedding import EmbeddingRequest
from tokenworks.gateway.failover import Attempt, Streams
from tokenworks.gateway.labels import Label
from tokenworks.gateway.planning import Plan
from tokenworks.gateway.privacy.labels import label_of_text
from tokenworks.gateway.recent import Record
from tokenworks.gateway.upstream import telling as upstream
from tokenworks.gateway.upstream.backend import UpstreamBackend
from tokenworks.telemetry.facts import (
    Asked,
    AttemptFact,
    Content,
    Operation,
    RequestFact,
    Traces,
)
from tokenworks.telemetry.metrics import Metrics
from tokenworks.telemetry.trace import TraceContext, current

MOST_TOLD: Final = Label.INTERNAL
"""The highest label of data whose text may be in a trace, whatever the settings say."""

LONGEST_TOLD: Final = 100_000
"""Characters of an answer that are kept for a trace."""


class Teller:
    """`ended` for each record that is over; `overheard` around an answer whose text may be told."""

    def __init__(
        self,
        metrics: Metrics,
        traces: Traces | None = None,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._metrics, self._traces, self._unix_time = metrics, traces, unix_time

    def ended(self, record: Record) -> None:
        fact = fact_of(record)
        self._metrics.ended(fact)
        if self._traces is not None and record.trace is not None and record.trace.sampled:
            self._traces.request(fact)

    @property
    def recording(self) -> bool:
        """Whether requests are traced that nobody has traced before."""
        return self._traces is not None

    @property
    def dropped(self) -> int:
        return self._traces.dropped if self._traces is not None else 0

    def watched(self, plan: Plan, attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
        """The same attempts. Where traces are kept, this machine's own engines tell of theirs too:
        backends elsewhere do so themselves."""
        traces, span = self._traces, current.get()
        if traces is None or span is None or not span.sampled:
            return attempts
        return tuple(
            one
            if isinstance(plan.placed[one.name].backend, UpstreamBackend)
            else replace(one, backend=_Own(one.name, one.backend, span, traces, self._unix_time))
            for one in attempts
        )

    def overheard(
        self, record: Record, plan: Plan, chunks: AsyncGenerator[Chunk, None]
    ) -> AsyncGenerator[Chunk, None]:
        """The same chunks; where nobody wants their text, or may have it, the very same object."""
        wanted = self._traces is not None and self._traces.wants_content
        if not wanted or plan.labelled.label > MOST_TOLD:
            return chunks
        return _overheard(record, plan.request, chunks)


class _Own:
    """An engine of this machine, as one attempt asks it."""

    def __init__(
        self,
        name: str,
        backend: Streams,
        above: TraceContext,
        traces: Traces,
        unix_time: Callable[[], float],
    ) -> None:
        self._name, self._backend = name, backend
        self._above, self._traces, self._now = above, traces, unix_time

    async def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
        began, first, last = self._now(), None, None
        failure: BaseException | None = None
        try:
            async with aclosing(self._backend.stream(request)) as chunks:
                async for chunk in chunks:
                    if first is None and chunk.tokens:
                        first = self._now() - began
                    last = chunk
                    yield chunk
        except BaseException as error:
            failure = error
            raise
        finally:
            usage = last.usage if last is not None else None
            self._tell(request, began, first, usage, failure)

    def _tell(
        self,
        request: Completion,
        began: float,
        first_s: float | None,
        usage: Usage | None,
        failure: BaseException | None,
    ) -> None:
        outcome = upstream.outcome_of(failure, answered=failure is None or usage is not None)
        fact = AttemptFact(
            request_id=request.request_id,
            trace=self._above.child(),
            operation=operation_of(request),
            backend=self._name,
            tier="device",
            provider="tokenworks",
            model=request.model,
            their_model=request.model,
            began=began,
            took_s=self._now() - began,
            outcome=outcome,
            error=type(failure).__name__ if failure is not None and outcome != "answered" else "",
            resumed=bool(request.begun),
            first_chunk_s=first_s,
            tokens=None if usage is None else upstream.tokens_of(usage),
        )
        self._traces.attempt(fact)


async def _overheard(
    record: Record, request: Completion, chunks: AsyncGenerator[Chunk, None]
) -> AsyncGenerator[Chunk, None]:
    said: list[str] = []
    left = LONGEST_TOLD
    async with aclosing(chunks):
        async for chunk in chunks:
            if chunk.restarted:
                said, left = [], LONGEST_TOLD
            if left > 0 and chunk.text and not chunk.index:
                said.append(chunk.text[:left])
                left -= len(chunk.text)
            if chunk.usage is not None:
                record.content = _content(request, "".join(said))
            yield chunk


def _content(request: Completion, answer: str) -> Content:
    """What an answer says that nobody had said before has no label yet: it is looked through."""
    if label_of_text(answer) > MOST_TOLD:
        answer = ""
    messages = request.messages
    if messages is None:
        text = request.prompt if isinstance(request.prompt, str) else ""
        messages = [{"role": "user", "content": text}]
    return Content(messages=messages, answer=answer)


def refused_record(request: Completion, key: Key, error: TokenworksError, at: float) -> Record:
    """Of a request that went to no backend, because none may or can answer it."""
    route = dict(error.explained)
    return Record(
        request_id=request.request_id,
        at=at,
        tenant=key.tenant,
        key_id=key.id,
        model=request.model,
        label=route.get("label", ""),
        route=route,
        status="refused",
        error=type(error).__name__,
        total_ms=0.0,
        operation=operation_of(request),
        trace=current.get(),
    )


def operation_of(request: Completion) -> Operation:
    return "embeddings" if isinstance(request, EmbeddingRequest) else upstream.operation_of(request)


def fact_of(record: Record) -> RequestFact:
    """Without the messages of errors: they may quote what a backend said, and so the request."""
    ruled_out = record.route.get("ruled_out", ())
    return RequestFact(
        request_id=record.request_id,
        trace=record.trace,
        operation=record.operation,
        model=record.model,
        label=record.label,
        tenant=record.tenant,
        status=record.status,
        error=record.error,
        began=record.at,
        took_s=(record.total_ms or 0.0) / 1000,
        first_token_s=None if record.first_token_ms is None else record.first_token_ms / 1000,
        backend=record.backend,
        tokens=record.tokens,
        money=record.money,
        energy_j=record.energy_j,
        asked=tuple(_asked(one) for one in record.tried),
        ruled_out=tuple((one["backend"], one["rule"]) for one in ruled_out),
        route=record.route,
        content=record.content,
    )


def _asked(one: dict[str, Any]) -> Asked:
    return Asked(
        backend=one["backend"],
        failed=bool(one.get("error")),
        resumed=one.get("resumed", ""),
        overtaken=one.get("overtaken", False),
        money=one.get("money", 0),
    )

"""A backend that is reached by HTTP: asks it, translates both ways, and watches how it does."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final, Literal

from tokenworks.errors import BackendError, ModelNotFound
from tokenworks.gateway.backend import BackendStatus, Chunk, Completion
from tokenworks.gateway.labels import Label
from tokenworks.gateway.needs import EVERYWHERE
from tokenworks.gateway.upstream.address import Resolve, system_resolve
from tokenworks.gateway.upstream.anthropic import AnthropicDialect
from tokenworks.gateway.upstream.connection import Connection
from tokenworks.gateway.upstream.dialect import Call, Dialect
from tokenworks.gateway.upstream.events import EventReader
from tokenworks.gateway.upstream.exchange import Exchanges, Origin, Patience
from tokenworks.gateway.upstream.health import BackendState, BreakerSettings, Health, Phase
from tokenworks.gateway.upstream.http import HttpClient, tls_context
from tokenworks.gateway.upstream.openai import OpenAIDialect, embeddings_call
from tokenworks.gateway.upstream.settings import Key, Limits, UpstreamSettings
from tokenworks.gateway.upstream.telling import Question, Telling, operation_of
from tokenworks.gateway.upstream.watching import Watch, keep_probing
from tokenworks.telemetry.clock import Clock, MonotonicClock
from tokenworks.telemetry.facts import Traces
from tokenworks.telemetry.trace import TraceContext, current

PROBE_S: Final = 5.0

_STATES: Final[Mapping[Phase, Literal["ready", "restarting", "failed"]]] = {
    "closed": "ready",
    "half_open": "restarting",
    "open": "failed",
}


class UpstreamBackend:
    """Serves `settings.models`. `start` reads its key; a backend that is down does not fail it.

    `trace` gives the span of the request that runs, if it is traced: each question to the backend
    is one below it, and `traces` hear of it. `environment` is where `api_key_variable` is looked
    up.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        breaker: BreakerSettings | None = None,
        trace: Callable[[], TraceContext | None] = current.get,
        traces: Traces | None = None,
        resolve: Resolve = system_resolve,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.models = tuple(settings.models)
        self.abilities: frozenset[str] = EVERYWHERE | frozenset(settings.abilities)
        self.answers_without_usage = 0
        self._by_name = {ours.casefold(): theirs for ours, theirs in settings.models.items()}
        # The environment is not kept as it is: whatever shows this object would show it.
        self._read_key: Callable[[], Key] = lambda: settings.read_key(environment or {})
        self._clock = clock or MonotonicClock()
        self._opened = asyncio.Event()
        self._health = Health(
            settings.name,
            settings.tier,
            settings.limits.concurrent,
            self._clock,
            breaker,
            self._opened.set,
        )
        self._dialect: Dialect = (
            OpenAIDialect(settings) if settings.dialect == "openai" else AnthropicDialect(settings)
        )
        self._trace = trace
        self._telling = Telling(settings, traces, unix_time)
        self._resolve = resolve
        self._unix_time = unix_time
        self._exchanges: Exchanges | None = None
        self._prober: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises ConfigError for a key or a certificate that cannot be read."""
        settings = self.settings
        key, endpoint = self._read_key(), settings.endpoint()
        client = HttpClient(
            endpoint,
            tls=tls_context(settings.ca_file) if endpoint.tls else None,
            connect_s=settings.limits.connect_s,
            resolve=self._resolve,
        )
        self._exchanges = Exchanges(
            settings.name,
            client,
            key,
            self._dialect.key_fields,
            self._unix_time,
            sees_state=settings.label() >= Label.PRIVATE,
        )
        self._prober = asyncio.create_task(
            keep_probing(self._health, self._opened, self.probe),
            name=f"probe of {settings.name}",
        )

    async def close(self) -> None:
        """Streams that still run end with BackendLost or BackendError."""
        exchanges, prober = self._exchanges, self._prober
        self._exchanges = self._prober = None
        if prober is not None:
            prober.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await prober
        if exchanges is not None:
            exchanges.client.close()

    def state(self) -> BackendState:
        """What a routing policy is told."""
        return self._health.state()

    def drain(self, wanted: bool = True) -> None:
        """Ask it nothing more, or again; what runs there goes on."""
        self._health.draining = wanted

    def status(self) -> BackendStatus:
        state = self._health.state()
        details: dict[str, float | int | str] = {
            "tier": state.tier,
            "running": state.in_flight,
            "error_rate": round(state.error_rate, 4),
            "connections": self._exchanges.client.connections if self._exchanges else 0,
            "answers_without_usage": self.answers_without_usage,
        }
        if state.first_token_s is not None:
            details["first_token_s"] = round(state.first_token_s, 4)
        if state.inter_token_s is not None:
            details["inter_token_s"] = round(state.inter_token_s, 5)
        if self._exchanges is None:
            return BackendStatus(state="stopped", details=details)
        return BackendStatus(state=_STATES[state.phase], reason=state.reason, details=details)

    async def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
        """Answer. Raises RequestError for what the backend cannot do, BackendError before the first
        chunk and BackendLost after it for all that goes wrong there, QueueFullError if as many
        requests run there as may, DeadlineError."""
        theirs = self._theirs(request.model)
        call, origin = self._dialect.call(request, theirs), self._origin(request.request_id)
        question = Question(
            origin, operation_of(request), request.model, theirs, bool(request.begun)
        )
        answers, reader = self._dialect.answers(request), EventReader()
        exchanges = self._started()
        watch = Watch(self.settings.name, self._health, self._clock)
        patience = self._patience(request.deadline_s)
        connection: Connection | None = None
        failure: BaseException | None = None
        try:
            connection = await exchanges.open(call, origin, patience)
            await exchanges.check(connection, "text/event-stream")
            while not answers.complete:
                events = await exchanges.events(connection, reader, answers, patience)
                if events is None:
                    break
                for event in events:
                    for chunk in answers.take(event):
                        watch.saw(chunk)
                        yield chunk
                if watch.spoke:
                    patience.spoke()
            for chunk in answers.end():
                watch.saw(chunk)
                yield chunk
            await exchanges.finish(connection)
        except BaseException as error:
            failure = error
            raise
        finally:
            if connection is not None:
                exchanges.close(connection)
            self.answers_without_usage += answers.estimated
            watch.end(failure, answered=answers.complete)
            question.status = connection.status if connection else 0
            self._telling.ended(question, watch, failure, answered=answers.complete)

    async def embed(
        self, model: str, inputs: object, further: Mapping[str, object], *, request_id: str = ""
    ) -> dict[str, Any]:
        """The reply of the backend's embeddings, under our name of the model.

        Raises RequestError, BackendError or QueueFullError.
        """
        theirs, origin = self._theirs(model), self._origin(request_id)
        call = embeddings_call(self.settings, theirs, inputs, further)
        question = Question(origin, "embeddings", model, theirs)
        exchanges = self._started()
        watch = Watch(self.settings.name, self._health, self._clock)
        failure: BaseException | None = None
        try:
            reply = await exchanges.whole(call, origin, self._patience(None))
            data = reply.get("data")
            if not isinstance(data, list) or not all(
                isinstance(one, dict) and "embedding" in one for one in data
            ):
                raise exchanges.failed("it sent no embeddings")
            return {**reply, "model": model}
        except BaseException as error:
            failure = error
            raise
        finally:
            watch.end(failure, answered=failure is None)
            self._telling.ended(question, watch, failure, answered=failure is None)

    async def probe(self) -> None:
        """Ask which models there are. Raises what went wrong; without a list a server is well."""
        exchanges = self._started()
        patience = Patience(Limits(first_byte_s=PROBE_S, idle_s=PROBE_S), None, _now())
        connection = await exchanges.open(Call(self._dialect.models_path, b""), Origin(), patience)
        try:
            if connection.status not in (404, 405):
                await exchanges.check(connection, "application/json")
            await exchanges.finish(connection)
        finally:
            exchanges.close(connection)

    def _origin(self, request_id: str) -> Origin:
        """A span of its own for each question: those of one request run after or beside others."""
        above = self._trace()
        return Origin(request_id, above.child() if above is not None else None)

    def _started(self) -> Exchanges:
        if self._exchanges is None:
            raise BackendError(f"The backend {self.settings.name!r} is not started")
        return self._exchanges

    def _patience(self, deadline_s: float | None) -> Patience:
        return Patience(self.settings.limits, deadline_s, _now())

    def _theirs(self, model: str) -> str:
        theirs = self._by_name.get(model.casefold())
        if theirs is None:
            raise ModelNotFound(f"The backend {self.settings.name!r} has no model {model[:200]!r}")
        return theirs


def _now() -> float:
    return asyncio.get_running_loop().time()

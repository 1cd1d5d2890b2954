"""One door to every backend: admit, route, stream, settle; and drain at the end."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial

from tokenworks.accounts.keys import Key
from tokenworks.errors import AccessError, ConfigError, EngineError, RequestError, TokenworksError
from tokenworks.gateway.account import Account
from tokenworks.gateway.backend import Backend, BackendStatus, Chunk, Completion
from tokenworks.gateway.backends import Backends
from tokenworks.gateway.books import Books, NoBooks
from tokenworks.gateway.embedding import EmbeddingPlanner, EmbeddingRequest
from tokenworks.gateway.failover import answer
from tokenworks.gateway.hedging import hedged
from tokenworks.gateway.labelling import Labeller, warm_up
from tokenworks.gateway.labels import Label, label_of
from tokenworks.gateway.planning import Plan, Planner
from tokenworks.gateway.policies import PolicyFile
from tokenworks.gateway.recent import Recent
from tokenworks.gateway.telling import Teller, refused_record
from tokenworks.gateway.tokenizing import Tokenizes, tokenizer_of
from tokenworks.telemetry.clock import Clock
from tokenworks.telemetry.facts import Traces
from tokenworks.telemetry.metrics import Metrics, ModelMetrics

logger = logging.getLogger(__name__)

POLICIES_SECONDS = 1.0
"""How soon a changed file of policies is noticed."""

ANYONE = Key(id="", tenant="", priority_max=10)
"""Who asks without a key where none is needed."""


class Gateway:
    """Owns the backends: those given, which are this machine's own, and those of the policies."""

    def __init__(
        self,
        backends: Sequence[Backend],
        metrics: Metrics,
        clock: Clock,
        *,
        policies: PolicyFile | None = None,
        books: Books | None = None,
        environment: Mapping[str, str] | None = None,
        unix_time: Callable[[], float] = time.time,
        traces: Traces | None = None,
    ) -> None:
        self.policies = policies or PolicyFile(None)
        self.teller = Teller(metrics, traces, unix_time)
        self.recent = Recent(on_end=self.teller.ended)
        self.backends = Backends(backends, environment or {}, clock, traces)
        self._books = books or NoBooks()
        self._metrics, self._clock, self._unix_time = metrics, clock, unix_time
        self._labeller = labeller = Labeller()
        self._planner = Planner(
            lambda: self.backends.all, labeller, unix_time, lambda: self.policies.chooser
        )
        self._embeddings = EmbeddingPlanner(lambda: self.backends.all, labeller, unix_time)
        self._series: dict[str, ModelMetrics] = {}
        self._running = 0
        self._reloading = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._watcher: asyncio.Task[None] | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """Those that backends serve, and the name that stands for two of them, if there is one."""
        chooser = self.policies.chooser
        return self.backends.models + ((chooser.alias,) if chooser else ())

    @property
    def running(self) -> int:
        """Requests that are being answered, or wait to be."""
        return self._running

    @property
    def draining(self) -> bool:
        return self._draining

    def statuses(self) -> dict[str, BackendStatus]:
        """What each model's first backend says of itself."""
        statuses = self.backends.statuses()
        if chooser := self.policies.chooser:
            statuses[chooser.alias] = chooser.status(statuses)
        return statuses

    def resolve(self, model: str) -> str:
        """The served id that `model` means. Raises ModelNotFound naming what is served."""
        chooser = self.policies.chooser
        if chooser is not None and chooser.means(model):
            return chooser.alias
        return self.backends.resolve(model)

    async def start(self) -> None:
        """Return once every backend of our own answers.

        Raises EngineError if one cannot, ConfigError for a backend of the policies that cannot be.
        """
        await self.backends.use(self.policies.current.backends)
        await asyncio.gather(self.backends.start(), asyncio.to_thread(warm_up))
        self._watcher = asyncio.create_task(self._watch(), name="policies")

    async def reload(self) -> bool:
        """Read the policies again if their file has changed; whether others hold now.

        Raises ConfigError for what is wrong with them: those that held then still do.
        """
        async with self._reloading:
            news = self.policies.news()
            if news is None:
                return False
            try:
                await self.backends.use(news[0].backends)
            except ConfigError as error:
                self.policies.problem = error.message
                raise
            self.policies.take(news)  # in the very moment in which its backends are in use
        logger.info("other policies hold now")
        return True

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new requests and wait for those that run. False if some still do at the end."""
        self._draining = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop every backend; streams that still run end with EngineError or BackendLost."""
        self._draining = True
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
        await self.backends.close()

    async def admit(
        self, request: Completion, key: Key = ANYONE, given: Sequence[Label] = ()
    ) -> "Admitted":
        """Decide who answers. `given` are labels that the data has, beside the key's own.

        Raises what `Planner.plan` raises, ModelNotFound and AccessError.
        """
        if self._draining:
            raise EngineError("This server is shutting down", hint="try again in a moment")
        model = self.resolve(request.model)
        _check_key(key, model, request.priority)
        least = label_of(key.label) if key.label else None
        planner = self._embeddings if isinstance(request, EmbeddingRequest) else self._planner
        request = replace(request, model=model)
        try:
            self._books.admit(key, 0)  # before anything is looked through, which takes time
            with self.running_one():
                plan = await planner.plan(request, least, given, self.policies.current)
        except TokenworksError as error:
            self.recent.add(record := refused_record(request, key, error, self._unix_time()))
            self.recent.ended(record)
            raise
        model = plan.request.model  # another one, where the name stands for two
        series = self._series.get(model)
        if series is None:
            series = self._series[model] = self._metrics.for_model(model)
        account = Account(self._books, key, plan, self.recent, series, self._clock, self._unix_time)
        return Admitted(self, plan, account)

    async def label_of(self, texts: Iterable[str]) -> Label:
        """What detectors make of these, as the policies say."""
        return await self._labeller.label_of(texts, self.policies.current.labels)

    def tokenizer(self, model: str, key: Key = ANYONE) -> tuple[Tokenizes, int]:
        """This machine's own tokenizer of a model, and how many tokens the model takes (0: not
        known). Nothing is sent anywhere, and nothing costs.

        Raises RequestError if there is none, ModelNotFound, AccessError and RateError.
        """
        model = self.resolve(model)
        _check_key(key, model)
        chooser = self.policies.chooser
        if chooser is not None and chooser.means(model):
            raise RequestError(
                f"{model!r} stands for two models, of which each has a tokenizer of its own",
                hint="ask for one of the two by its own name",
                param="model",
            )
        found = tokenizer_of(self.backends.all, model)
        self._books.admit(key, 0)
        return found

    async def stream(
        self, request: Completion, key: Key = ANYONE, given: Sequence[Label] = ()
    ) -> AsyncGenerator[Chunk, None]:
        """Admit and answer. Raises as `admit` and `Admitted.stream` do."""
        admitted = await self.admit(request, key, given)
        async with aclosing(admitted.stream()) as chunks:
            async for chunk in chunks:
                yield chunk

    @contextmanager
    def running_one(self) -> Iterator[None]:
        """Count a request while it runs, so that draining waits for it."""
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _watch(self) -> None:
        """Read the policies again when their file changes, until the gateway closes."""
        while True:
            await asyncio.sleep(POLICIES_SECONDS)
            try:
                await self.reload()
            except ConfigError as error:
                logger.error("%s; the policies that held before still do", error.message)
            except Exception:
                logger.exception("the policies could not be looked at again")


class Admitted:
    """A request that may be answered. `label` is that of its data, and so of its answer."""

    def __init__(self, gateway: Gateway, plan: Plan, account: Account) -> None:
        self._gateway, self._plan, self._account = gateway, plan, account

    @property
    def label(self) -> Label:
        return self._plan.labelled.label

    @property
    def model(self) -> str:
        """The one that answers: another than was asked for, where that name stands for two."""
        return self._plan.request.model

    @property
    def base_label(self) -> Label:
        """The label without what detectors found: who keeps the text finds that again."""
        return self._plan.labelled.base

    async def stream(self) -> AsyncGenerator[Chunk, None]:
        """The answer; its last piece leaves once the books know of it. To be called once.

        Raises RateError and BudgetError before any chunk, and what backends raise.
        """
        account = self._account
        with self._gateway.running_one():
            await account.open()
            try:
                async with aclosing(self._chunks()) as chunks:
                    async for chunk in chunks:
                        account.saw(chunk)
                        if chunk.usage is not None:
                            await account.close("answered")
                        yield chunk
                await account.close("answered")
            except (GeneratorExit, asyncio.CancelledError):
                await account.close("cancelled")
                raise
            except Exception as error:
                await account.close("failed", error)
                raise

    def _chunks(self) -> AsyncGenerator[Chunk, None]:
        plan, account = self._plan, self._account
        attempts = tuple(
            replace(one, before_more=partial(account.extend, one.name, most))
            for one, most in zip(plan.attempts, plan.each, strict=True)
        )
        attempts = self._gateway.teller.watched(plan, attempts)
        if plan.hedge_after_s and len(attempts) > 1:
            both = hedged(attempts[0], attempts[1], plan.hedge_after_s, account.outcome)
            attempts = (both, *attempts[1:])  # the second can still go on with the first
        chunks = answer(attempts, account.outcome, when_broken=plan.when_broken)
        return self._gateway.teller.overheard(account.record, plan, plan.restored(chunks))


def _check_key(key: Key, model: str, priority: int | None = None) -> None:
    """Raises AccessError for a model, RequestError for a priority that is not for this key."""
    key.require("infer")
    if not key.may_use(model):
        raise AccessError(f"The key {key.id} may not use the model {model!r}")
    if priority is not None and priority > key.priority_max:
        raise RequestError(
            f"priority is {priority}; with this key it may be {key.priority_max} at most",
            param="priority",
        )

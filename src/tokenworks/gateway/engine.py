"""The backend of this machine: one engine worker, and text around its tokens.

When the worker dies, every stream that runs goes on from the tokens it has, on the next worker: the
client sees a pause. An answer is a function of prompt, sampling and seed, so it is the same answer.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from tokenworks.errors import (
    EngineError,
    EngineLost,
    QueueFullError,
    RequestError,
)
from tokenworks.fleet.processes import Backoff
from tokenworks.gateway.backend import BackendStatus, Chunk, Completion
from tokenworks.gateway.checks import checked, room, sampling_of
from tokenworks.gateway.choices import Choices
from tokenworks.gateway.supervisor import Supervisor
from tokenworks.inference.client import EngineClient
from tokenworks.inference.messages import Generate, Ready
from tokenworks.inference.prefixes import common_beginning
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.open import open_codec
from tokenworks.telemetry.clock import Clock, MonotonicClock
from tokenworks.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

LONG_TEXT = 2000
"""Characters beyond which a text is tokenised in a thread, so that it stalls nobody's stream."""

MESSAGE_TEXT = 32
"""Characters that a message counts for beside its content: the template writes its role around."""

MOST_LOSSES = 10
"""Workers that may die on one request without a token of it in between: then it is likely the
cause. A request that only waited for its place loses workers too, so the number is not small."""

RETRY_AFTER_RESTART_S = 2.0
"""A worker of a small model is ready again after about so long."""


class EngineBackend:
    """Serves `settings.model_id`. Raises nothing before `start`."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        metrics: Metrics,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.models = (settings.model_id,)
        self.abilities = frozenset({"extended"})
        self._settings = settings
        self._clock = clock or MonotonicClock()
        self._supervisor = Supervisor(
            settings,
            backoff=backoff or Backoff(),
            clock=self._clock,
            on_restart=lambda: metrics.engine_restarted(settings.model_id),
        )
        self._ids = itertools.count(1)
        self._waiting = 0  # answers of requests that were not begun and have no worker yet
        self._codec: TextCodec | None = None
        self._tokeniser = ThreadPoolExecutor(1, thread_name_prefix="tokenise")

    async def start(self) -> None:
        """Start the worker and read the tokenizer meanwhile.

        Raises EngineError if the worker cannot be started and ModelFileError for a tokenizer that
        is not supported.
        """
        loop = asyncio.get_running_loop()
        codec = loop.run_in_executor(self._tokeniser, open_codec, Path(self._settings.model_path))
        try:
            await self._supervisor.start()
            self._codec = await codec
        except BaseException:
            await asyncio.gather(codec, return_exceptions=True)
            await self._supervisor.close()
            raise

    async def close(self) -> None:
        await self._supervisor.close()
        self._tokeniser.shutdown(wait=False, cancel_futures=True)

    def status(self) -> BackendStatus:
        supervisor = self._supervisor
        details: dict[str, float | int | str] = {"restarts": supervisor.restarts}
        if supervisor.state == "ready" and supervisor.ready and supervisor.client:
            ready, load = supervisor.ready, supervisor.client.load
            details |= {
                "executor": ready.executor,
                "context_length": ready.context_length,
                "max_sequences": ready.max_sequences,
                "running": load.running,
                "waiting": load.waiting,
                "pages_used": load.pages_used,
                "pages_total": ready.pages_total,
                "preemptions": load.preempted,
                "guessed_tokens": load.guessed,
                "guessed_tokens_right": load.guessed_right,
                "worker_pid": supervisor.process.pid if supervisor.process else 0,
            }
        state = supervisor.state
        if state == "ready" and self._codec is None:
            state = "starting"
        return BackendStatus(state=state, reason=supervisor.reason, details=details)

    async def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
        came = self._clock.now()
        client, ready = await self._admitted(request.n)
        codec = self._read_codec()
        prompt = await self._tokens(codec, request)
        sampling = sampling_of(request, codec, room(request, len(prompt), ready))
        identity = f"{request.request_id}/{next(self._ids)}"
        public = await self._public_tokens(codec, request, prompt)
        choices = Choices(codec, request, prompt, sampling, identity, public)
        losses = _Losses(identity)
        while not choices.finished:
            try:
                job = choices.job(self._clock.now() - came)
                async with aclosing(_chunks(client, choices, job)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except EngineLost:
                losses.add(choices.received)
                client, _ = await self._supervisor.connection()

    async def tokenize(self, request: Completion, *, begin: bool = True) -> list[int]:
        """The tokens of a prompt or a chat; without `begin` a prompt has none that begin a text.

        Raises EngineError until the tokenizer is read, RequestError for what it cannot take.
        """
        codec = self._read_codec()
        if request.messages is None and not request.prompt:
            return codec.prompt("") if begin else []
        if begin or not isinstance(request.prompt, str):
            return await self._tokens(codec, request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokeniser, codec.encode, request.prompt)

    async def detokenize(self, tokens: list[int]) -> tuple[str, list[str]]:
        """The text of tokens, and of each by itself; control tokens by their names.

        Raises EngineError, and RequestError for a token that the model has not.
        """
        codec = self._read_codec()
        if tokens:
            checked(tokens, codec, param="tokens")

        def texts() -> tuple[str, list[str]]:
            return codec.decode(tokens, special=True), [
                codec.token_bytes(token).decode("utf-8", "replace") for token in tokens
            ]

        return await asyncio.get_running_loop().run_in_executor(self._tokeniser, texts)

    def _read_codec(self) -> TextCodec:
        if self._codec is None:
            raise EngineError(f"The engine of {self._settings.model_id!r} is being started")
        return self._codec

    async def _admitted(self, answers: int) -> tuple[EngineClient, Ready]:
        """The worker, waited for while it is being restarted by no more than it could queue."""
        most = self._settings.max_sequences + self._settings.queue_limit
        if answers > most:
            raise RequestError(
                f"n is {answers}; this engine holds at most {most} answers at once", param="n"
            )
        if self._waiting + answers > most:
            raise QueueFullError(
                f"The engine is being restarted and {self._waiting} answers wait for it already",
                retry_after_s=RETRY_AFTER_RESTART_S,
            )
        self._waiting += answers
        try:
            return await self._supervisor.connection()
        finally:
            self._waiting -= answers

    async def _tokens(self, codec: TextCodec, request: Completion) -> list[int]:
        """The prompt's tokens. Raises RequestError for what the model cannot take."""
        if isinstance(request.prompt, list):
            return checked(request.prompt, codec) + codec.continuation(request.begun)
        if _length(request) <= LONG_TEXT:
            return _tokenise(codec, request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokeniser, _tokenise, codec, request)

    async def _public_tokens(self, codec: TextCodec, request: Completion, prompt: list[int]) -> int:
        """How many of the prompt's tokens come from nothing but what is public of it.

        None where the chat template refuses that part by itself.
        """
        if not request.public_prefix:
            return 0
        try:
            public = await self._tokens(codec, _public_part(request))
        except RequestError:
            return 0
        return common_beginning(public, prompt, min(len(public), len(prompt)))


async def _chunks(
    client: EngineClient, choices: Choices, job: Generate
) -> AsyncGenerator[Chunk, None]:
    async with aclosing(client.generate(job)) as replies:
        async for reply in replies:
            for chunk in choices.add(reply):
                yield chunk
            if choices.finished:
                return
            if not choices.goes_on(reply.request_id):
                client.cancel(reply.request_id)  # by a stop string, which the engine does not know


class _Losses:
    """Counts the workers that died on one request without a token of it in between."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._generated = -1
        self._count = 0

    def add(self, generated: int) -> None:
        """Raises EngineError if this one was one too many."""
        self._count = self._count + 1 if generated == self._generated else 1
        self._generated = generated
        logger.warning("%s goes on after %d tokens on a new engine", self._identity, generated)
        if self._count >= MOST_LOSSES:
            raise EngineError(
                f"The engine died {self._count} times in a row on this request",
                hint="send something else; the server's log says more",
            )


def _length(request: Completion) -> int:
    if isinstance(request.prompt, str):
        return len(request.prompt)
    texts = [message["content"] or "" for message in request.messages or ()]
    return sum(map(len, texts)) + MESSAGE_TEXT * len(texts) + len(request.begun)


def _public_part(request: Completion) -> Completion:
    if request.messages is not None:
        messages = request.messages[: request.public_prefix]
        return replace(request, messages=messages, begun="")
    assert request.prompt is not None
    return replace(request, prompt=request.prompt[: request.public_prefix], begun="")


def _tokenise(codec: TextCodec, request: Completion) -> list[int]:
    begun = codec.continuation(request.begun)
    if request.messages is not None:
        return codec.chat(request.messages, request.template_options) + begun
    assert isinstance(request.prompt, str)
    return checked(codec.prompt(request.prompt) + begun, codec)

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
from pathlib import Path

from tokenworks.errors import (
    ContextLengthError,
    EngineError,
    EngineLost,
    QueueFullError,
    RequestError,
)
from tokenworks.fleet.processes import Backoff
from tokenworks.gateway.backend import BackendStatus, Chunk, Completion
from tokenworks.gateway.supervisor import Supervisor
from tokenworks.gateway.text import AnswerText
from tokenworks.inference.client import EngineClient
from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.messages import Generate, Ready, Sampling
from tokenworks.inference.models.gguf import read_gguf
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.text.codec import TextCodec
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
        self._settings = settings
        self._supervisor = Supervisor(
            settings,
            backoff=backoff or Backoff(),
            clock=clock or MonotonicClock(),
            on_restart=lambda: metrics.engine_restarted(settings.model_id),
        )
        self._ids = itertools.count(1)
        self._waiting = 0  # requests that were not begun and have no worker yet
        self._codec: TextCodec | None = None
        self._tokeniser = ThreadPoolExecutor(1, thread_name_prefix="tokenise")

    async def start(self) -> None:
        """Start the worker and read the tokenizer meanwhile.

        Raises EngineError if the worker cannot be started and ModelFileError for a tokenizer that
        is not supported.
        """
        loop = asyncio.get_running_loop()
        codec = loop.run_in_executor(self._tokeniser, _open_codec, self._settings.model_path)
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
                "context_length": _longest(ready),
                "max_sequences": ready.max_sequences,
                "running": load.running,
                "waiting": load.waiting,
                "pages_used": load.pages_used,
                "pages_total": ready.pages_total,
                "worker_pid": supervisor.process.pid if supervisor.process else 0,
            }
        state = supervisor.state
        if state == "ready" and self._codec is None:
            state = "starting"
        return BackendStatus(state=state, reason=supervisor.reason, details=details)

    async def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
        client, ready = await self._admitted()
        codec = self._codec
        if codec is None:
            raise EngineError(f"The engine of {self._settings.model_id!r} is being started")
        prompt = await self._tokens(codec, request)
        sampling = _sampling(request, codec, _room(request, len(prompt), _longest(ready)))
        identity = f"{request.request_id}/{next(self._ids)}"
        answer = AnswerText(codec, request.stop, len(prompt))
        losses = _Losses(identity)
        while not answer.finished:
            job = Generate(
                request_id=identity,
                prompt=prompt,
                sampling=sampling,
                generated=list(answer.generated),
            )
            try:
                async with aclosing(_chunks(client, job, answer)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except EngineLost:
                losses.add(len(answer.generated))
                client, _ = await self._supervisor.connection()

    async def _admitted(self) -> tuple[EngineClient, Ready]:
        """The worker, waited for while it is being restarted by no more than it could queue."""
        most = self._settings.max_sequences + self._settings.queue_limit
        if self._waiting >= most:
            raise QueueFullError(
                f"The engine is being restarted and {most} requests wait for it already",
                retry_after_s=RETRY_AFTER_RESTART_S,
            )
        self._waiting += 1
        try:
            return await self._supervisor.connection()
        finally:
            self._waiting -= 1

    async def _tokens(self, codec: TextCodec, request: Completion) -> list[int]:
        """The prompt's tokens. Raises RequestError for what the model cannot take."""
        if isinstance(request.prompt, list):
            return _checked(request.prompt, codec)
        if _length(request) <= LONG_TEXT:
            return _tokenise(codec, request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokeniser, _tokenise, codec, request)


async def _chunks(
    client: EngineClient, job: Generate, answer: AnswerText
) -> AsyncGenerator[Chunk, None]:
    async with aclosing(client.generate(job)) as tokens:
        async for token in tokens:
            chunk = answer.add(token)
            if chunk is not None:
                yield chunk
            if answer.finished:
                return


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


def _open_codec(path: str) -> TextCodec:
    gguf = read_gguf(Path(path))
    try:
        return TextCodec.from_gguf(gguf)
    finally:
        gguf.close()


def _length(request: Completion) -> int:
    if isinstance(request.prompt, str):
        return len(request.prompt)
    return sum(len(message["content"]) + MESSAGE_TEXT for message in request.messages or ())


def _tokenise(codec: TextCodec, request: Completion) -> list[int]:
    if request.messages is not None:
        return codec.chat(request.messages)
    assert isinstance(request.prompt, str)
    return _checked(codec.prompt(request.prompt), codec)


def _checked(tokens: list[int], codec: TextCodec) -> list[int]:
    if not tokens:
        if codec.bos is None:
            raise RequestError("The prompt is empty", hint="send some text", param="prompt")
        return [codec.bos]
    if not 0 <= min(tokens) <= max(tokens) < codec.vocabulary_size:
        raise RequestError(
            f"The prompt holds token {max(tokens)}; this model's go from 0 to "
            f"{codec.vocabulary_size - 1}",
            param="prompt",
        )
    return tokens


def _longest(ready: Ready) -> int:
    """Most tokens that one request may have, prompt and answer together."""
    return min(ready.context_length, ready.pages_total * PAGE_TOKENS)


def _room(request: Completion, prompt_tokens: int, longest: int) -> int:
    """How many tokens the answer may have. Raises ContextLengthError, with the numbers."""
    room = longest - prompt_tokens
    if room < 1:
        raise ContextLengthError(
            f"The prompt has {prompt_tokens} tokens; prompt and answer together may have {longest}",
            hint="shorten the prompt, or begin a new conversation",
            param="prompt" if request.messages is None else "messages",
        )
    if request.max_tokens is None:
        return room
    if request.max_tokens > room:
        raise ContextLengthError(
            f"max_tokens is {request.max_tokens} and the prompt has {prompt_tokens} tokens; "
            f"together they may have {longest}",
            hint=f"with this prompt, max_tokens can be at most {room}",
            param="max_tokens",
        )
    return request.max_tokens


def _sampling(request: Completion, codec: TextCodec, max_tokens: int) -> Sampling:
    return Sampling(
        max_tokens=max_tokens,
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        min_p=request.min_p,
        seed=request.seed,
        stop_tokens=codec.stop_tokens,
        logprobs=request.logprobs,
    )

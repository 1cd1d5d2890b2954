"""The backend of this machine that makes vectors: an encoder in a thread of this process.

Its kernels let other threads run, so that streams beside it go on.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from tokenworks.errors import ContextLengthError, EngineError, QueueFullError, RequestError
from tokenworks.gateway.backend import BackendStatus, Chunk, Completion
from tokenworks.gateway.checks import checked
from tokenworks.inference.encoder import Encoder
from tokenworks.inference.executors.choose import open_executor
from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.open import open_codec

T = TypeVar("T")

AT_ONCE: Final = 16
"""Texts that are computed before another request has its turn, or it shows that nobody waits."""

RETRY_AFTER_S: Final = 1.0


class EncoderBackend:
    """Serves `settings.model_id`, an encoder. Raises nothing before `start`."""

    def __init__(self, settings: EngineSettings) -> None:
        self.models = (settings.model_id,)
        self.abilities = frozenset({"embeddings"})
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._opened: tuple[Model, TextCodec, Encoder] | None = None
        self._waiting = 0

    async def start(self) -> None:
        """Load the weights. Raises ModelFileError and ConfigError."""
        self._opened = await self._in_thread(self._open)

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await self._in_thread(opened[0].close)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def status(self) -> BackendStatus:
        if self._opened is None:
            return BackendStatus(state="starting")
        model, _, _ = self._opened
        details: dict[str, float | int | str] = {
            "context_length": model.config.context_length,
            "running": self._waiting,
        }
        return BackendStatus(state="ready", details=details)

    async def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
        """Raises RequestError: an encoder does not answer."""
        raise RequestError(
            f"{self._settings.model_id!r} makes vectors of texts, it does not answer",
            hint="POST /v1/embeddings",
            param="model",
        )
        yield Chunk(text="")  # makes it a stream like any other

    async def embed(
        self, model: str, inputs: object, further: Mapping[str, object], *, request_id: str = ""
    ) -> dict[str, Any]:
        """Vectors of texts, or of lists of tokens that are taken as they are.

        Raises RequestError for what the model cannot take, QueueFullError, EngineError.
        """
        loaded, codec, encoder = self._ready()
        width, longest = loaded.config.hidden, loaded.config.context_length
        if further.get("dimensions", width) != width:
            raise RequestError(f"dimensions can only be {width} for {model!r}", param="dimensions")
        if self._waiting >= self._settings.queue_limit:
            raise QueueFullError(
                f"{self._waiting} requests wait for vectors already", retry_after_s=RETRY_AFTER_S
            )
        assert isinstance(inputs, Sequence)
        as_text = further.get("encoding_format") == "base64"
        data: list[dict[str, object]] = []
        tokens = 0
        self._waiting += 1
        try:
            for first in range(0, len(inputs), AT_ONCE):
                some = inputs[first : first + AT_ONCE]
                vectors, read = await self._in_thread(
                    _computed, codec, encoder, some, longest, as_text
                )
                data += ({"embedding": vector} for vector in vectors)
                tokens += read
        finally:
            self._waiting -= 1
        return {"data": data, "usage": {"prompt_tokens": tokens}}

    async def tokenize(self, request: Completion, *, begin: bool = True) -> list[int]:
        """The tokens of a text as the model reads it; without `begin` those of the text alone."""
        _, codec, _ = self._ready()
        if not isinstance(request.prompt, str):
            raise RequestError("An encoder takes no messages", hint="send a prompt")
        return await self._in_thread(codec.document if begin else codec.encode, request.prompt)

    async def detokenize(self, tokens: list[int]) -> tuple[str, list[str]]:
        """The text of tokens, and of each by itself."""
        _, codec, _ = self._ready()
        if tokens:
            checked(tokens, codec, param="tokens")
        names = [codec.token_bytes(token).decode("utf-8", "replace") for token in tokens]
        return codec.decode(tokens, special=True), names

    def _open(self) -> tuple[Model, TextCodec, Encoder]:
        path = Path(self._settings.model_path)
        model = load_model(path)
        encoder = Encoder(open_executor(model, self._settings), model.config)
        return model, open_codec(path), encoder

    def _ready(self) -> tuple[Model, TextCodec, Encoder]:
        if self._opened is None:
            raise EngineError(f"The encoder {self._settings.model_id!r} is being started")
        return self._opened

    async def _in_thread(self, work: Callable[..., T], *given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)


def _computed(
    codec: TextCodec, encoder: Encoder, inputs: Sequence[Any], longest: int, as_text: bool
) -> tuple[list[object], int]:
    """A vector for each input, and how many tokens they have together."""
    texts = [
        codec.document(one) if isinstance(one, str) else checked(list(one), codec, param="input")
        for one in inputs
    ]
    for text in texts:
        if len(text) > longest:
            raise ContextLengthError(
                f"A text of the input has {len(text)} tokens; the model takes {longest}",
                hint="shorten or split it",
                param="input",
            )
    vectors = encoder.vectors(texts)
    count = sum(map(len, texts))
    if as_text:
        return [base64.b64encode(one.astype("<f4").tobytes()).decode() for one in vectors], count
    return [one.tolist() for one in vectors], count

"""Vectors of texts: a request for them passes labels, ranking, failover and books as a chat does.

Its texts are the messages of a `Completion` that wants no answer: whatever looks through, masks,
reserves for or books a request does the same for this one.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

from tokenworks.errors import RequestError
from tokenworks.gateway.backend import Chunk, Completion
from tokenworks.gateway.embedding_replies import Encoding, Vector, usage_of, vectors_of
from tokenworks.gateway.labelling import Labeller
from tokenworks.gateway.labels import Label
from tokenworks.gateway.placed import Placed
from tokenworks.gateway.planning import Plan, Planner
from tokenworks.gateway.policies import Policies
from tokenworks.gateway.privacy.placeholders import PLACEHOLDER, placeholder

ABILITY = "embeddings"
"""What a backend's settings say of one that makes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest(Completion):
    """`made` makes one: its texts lie in `messages`, or its tokens in `token_lists`, end to end in
    `prompt`. `dimensions` None: as many as the model gives."""

    token_lists: tuple[tuple[int, ...], ...] = ()
    dimensions: int | None = None
    encoding: Encoding = "float"

    @property
    def inputs(self) -> list[Any]:
        """Texts, or lists of tokens, as backends take them."""
        if self.token_lists:
            return [list(tokens) for tokens in self.token_lists]
        return [message["content"] for message in self.messages or ()]

    @classmethod
    def made(cls, inputs: Sequence[str] | Sequence[Sequence[int]], **more: Any) -> Self:
        """Of texts or of lists of tokens, one at least; `more` are fields beside those of the
        inputs."""
        if isinstance(inputs[0], str):
            messages = [{"role": "user", "content": text} for text in inputs]
            return cls(messages=messages, max_tokens=0, **more)
        lists = tuple(tuple(map(int, tokens)) for tokens in inputs)
        flat = [token for tokens in lists for token in tokens]
        return cls(prompt=flat, token_lists=lists, max_tokens=0, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors(Chunk):
    """The whole answer: a vector for each input, in their order."""

    vectors: tuple[Vector, ...]


@runtime_checkable
class Embeds(Protocol):
    """As much of a backend as embeddings take."""

    async def embed(
        self, model: str, inputs: object, further: Mapping[str, object], *, request_id: str = ""
    ) -> dict[str, Any]:
        """A reply in the shape of OpenAI's embeddings. Raises as `Backend.stream` does."""
        ...


@dataclass(frozen=True, slots=True)
class Embedder:
    """A backend's embeddings as a stream of one chunk, which can be failed over like any other."""

    name: str
    backend: Embeds

    async def stream(self, request: Completion) -> AsyncGenerator[Chunk, None]:
        """Raises BackendError for a reply that makes no sense, and what `embed` raises."""
        assert isinstance(request, EmbeddingRequest)
        further: dict[str, object] = {}
        if request.dimensions is not None:
            further["dimensions"] = request.dimensions
        if request.encoding != "float":
            further["encoding_format"] = request.encoding
        reply = await self.backend.embed(
            request.model, request.inputs, further, request_id=request.request_id
        )
        wanted = len(request.inputs)
        vectors = await vectors_of(self.name, reply, wanted, request.encoding)
        usage = usage_of(reply, request)
        yield Vectors(text="", finish_reason="stop", usage=usage, vectors=vectors)


class EmbeddingPlanner:
    """As `Planner`, over those backends alone that make embeddings."""

    def __init__(
        self,
        placed: Callable[[], Sequence[Placed]],
        labeller: Labeller,
        unix_time: Callable[[], float],
    ) -> None:
        self._all = placed
        self._planner = Planner(self._able, labeller, unix_time)

    async def plan(
        self,
        request: Completion,
        least: Label | None,
        given: Sequence[Label],
        policies: Policies,
    ) -> Plan:
        """Raises RequestError if nobody makes embeddings of this model, and as `Planner.plan`."""
        if not any(one.serves(request.model) for one in self._able()):
            raise RequestError(
                f"No backend makes embeddings for {request.model!r}",
                hint="in the policies, give a backend that serves it abilities = ['embeddings'], "
                "or ask for the model of one that has them",
                param="model",
            )
        plan = await self._planner.plan(request, least, given, policies)
        attempts = []
        for one in plan.attempts:
            backend = plan.placed[one.name].backend
            assert isinstance(backend, Embeds)
            shown = _numbered_apart(plan.request, one.request)
            attempts.append(replace(one, backend=Embedder(one.name, backend), request=shown))
        # Vectors hold no placeholder to put anything in place of.
        return replace(plan, attempts=tuple(attempts), vault=None)

    def _able(self) -> list[Placed]:
        return [one for one in self._all() if _can(one)]


def numbered_apart(text: str, masked: str) -> str:
    """The masked text with its placeholders numbered as if it had been masked alone: its vector
    then does not depend on what is asked beside it."""
    own = set(PLACEHOLDER.findall(text))  # what a user wrote stays as it is
    numbers: dict[str, int] = {}
    new: dict[str, str] = {}
    for given in PLACEHOLDER.findall(masked):
        if given in own or given in new:
            continue
        kind = given[1:].rpartition("_")[0].lower()
        number = numbers.get(kind, 0) + 1
        while placeholder(kind, number) in own:
            number += 1
        numbers[kind] = number
        new[given] = placeholder(kind, number)
    return PLACEHOLDER.sub(lambda found: new.get(found[0], found[0]), masked)


def _numbered_apart(request: Completion, shown: Completion) -> Completion:
    if not shown.messages or shown.messages == request.messages:
        return shown
    messages = [
        {**masked, "content": numbered_apart(whole["content"], masked["content"])}
        for whole, masked in zip(request.messages or (), shown.messages, strict=True)
    ]
    return replace(shown, messages=messages)


def _can(placed: Placed) -> bool:
    return ABILITY in placed.abilities and isinstance(placed.backend, Embeds)

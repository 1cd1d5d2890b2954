"""What every router is given."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tokenworks.accounts.keys import Key
from tokenworks.gateway.backend import Completion
from tokenworks.gateway.gateway import Admitted, Gateway
from tokenworks.gateway.labels import Label, label_of
from tokenworks.server.kept import MemoryStore, ResponseStore
from tokenworks.server.parameters import Parameters
from tokenworks.server.settings import ServerSettings
from tokenworks.telemetry.metrics import Metrics

LABEL_HEADER = "x-tokenworks-label"
"""How secret a request's data is: public, internal, private or secret. It only ever raises it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    gateway: Gateway
    settings: ServerSettings
    metrics: Metrics
    responses: ResponseStore = field(default_factory=MemoryStore)
    unix_time: Callable[[], float] = time.time
    started: int = field(default_factory=lambda: int(time.time()))  # Unix seconds

    def now(self) -> int:
        """Unix seconds, as clients are told them."""
        return int(self.unix_time())

    async def admit(
        self, request: Request, completion: Completion, given: Sequence[Label] = ()
    ) -> Admitted:
        """Decide who answers whoever sent this. `given` are labels that the data has beside the
        one in the header. Raises RequestError for a label that is none."""
        words = request.headers.getlist(LABEL_HEADER)  # a proxy may add its own to a caller's
        said = tuple(label_of(word, param=LABEL_HEADER) for word in words)
        return await self.gateway.admit(completion, key_of(request), (*given, *said))


def completion_of(
    request: Request,
    parameters: Parameters,
    *,
    model: str,
    max_tokens: int | None,
    logprobs: int | None,
    messages: list[dict[str, Any]] | None = None,
    prompt: str | list[int] | None = None,
    echo: bool = False,
    template_options: Mapping[str, object] | None = None,
    further: Mapping[str, object] | None = None,
) -> Completion:
    """The request as the gateway wants it: every default of the API filled in here.

    Without a seed one is drawn: from there on, the answer is a function of the request.
    """
    given, seed = parameters, parameters.seed
    return Completion(
        request_id=request_id_of(request),
        model=model,
        messages=messages,
        prompt=prompt,
        max_tokens=max_tokens,
        temperature=1.0 if given.temperature is None else given.temperature,
        top_k=max(0, given.top_k or 0),
        top_p=1.0 if given.top_p is None else given.top_p,
        min_p=given.min_p or 0.0,
        seed=secrets.randbits(63) if seed is None else seed % 2**63,
        stop=given.stop,
        logprobs=logprobs,
        presence_penalty=given.presence_penalty or 0.0,
        frequency_penalty=given.frequency_penalty or 0.0,
        repetition_penalty=given.repetition_penalty or 1.0,  # 0 is not allowed
        logit_bias=given.logit_bias,
        min_tokens=given.min_tokens or 0,
        n=given.n or 1,  # nor here
        echo=echo,
        priority=(given.service_tier or 0) if given.priority is None else given.priority,
        deadline_s=given.deadline_s,
        template_options=template_options or {},
        further=further or {},
        tenant=key_of(request).tenant,
        public_prefix=given.public_prefix or 0,
    )


def key_of(request: Request) -> Key:
    """What whoever sends this request may do."""
    key: Key = request.scope["tokenworks.key"]
    return key


def request_id_of(request: Request) -> str:
    identity: str = request.scope["tokenworks.request_id"]
    return identity


def json_response(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="application/json")

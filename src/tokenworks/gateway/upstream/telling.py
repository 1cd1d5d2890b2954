"""What is told of one question to a backend once it is over: figures and kinds, no text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from tokenworks.gateway.backend import Completion, Usage
from tokenworks.gateway.upstream.exchange import Origin
from tokenworks.gateway.upstream.settings import UpstreamSettings
from tokenworks.gateway.upstream.watching import Watch
from tokenworks.telemetry.facts import AttemptFact, Operation, Tokens, Traces

PROVIDERS: Final = {
    "openai.com": "openai",
    "anthropic.com": "anthropic",
    "azure.com": "azure.ai.openai",
    "mistral.ai": "mistral_ai",
    "deepseek.com": "deepseek",
    "groq.com": "groq",
    "x.ai": "x_ai",
    "perplexity.ai": "perplexity",
    "cohere.com": "cohere",
    "googleapis.com": "gcp.gemini",
    "amazonaws.com": "aws.bedrock",
}
"""OpenTelemetry's names of providers, by where they are."""


@dataclass(slots=True)
class Question:
    """What is asked, but for its text. `status` is the reply's, 0 if there was none."""

    origin: Origin
    operation: Operation
    model: str
    their_model: str
    resumed: bool = False
    status: int = 0


class Telling:
    """Tells `traces` of the questions to one backend that belong to a trace which is recorded."""

    def __init__(
        self, settings: UpstreamSettings, traces: Traces | None, unix_time: Callable[[], float]
    ) -> None:
        self._settings, self._traces, self._unix_time = settings, traces, unix_time
        endpoint = settings.endpoint()
        self._address, self._port = endpoint.host, endpoint.port
        self._provider = provider_of(endpoint.host, settings.dialect)

    def ended(
        self, question: Question, watch: Watch, failure: BaseException | None, *, answered: bool
    ) -> None:
        """`failure` is what ended it, if anything did; `answered`: the answer was complete."""
        span = question.origin.span
        if self._traces is None or span is None or not span.sampled:
            return
        took_s = watch.took_s
        fact = AttemptFact(
            request_id=question.origin.request_id,
            trace=span,
            operation=question.operation,
            backend=self._settings.name,
            tier=self._settings.tier,
            provider=self._provider,
            model=question.model,
            their_model=question.their_model,
            began=self._unix_time() - took_s,
            took_s=took_s,
            outcome=outcome_of(failure, answered=answered),
            error="" if answered or failure is None else type(failure).__name__,
            status=question.status,
            address=self._address,
            port=self._port,
            resumed=question.resumed,
            first_chunk_s=watch.first_s,
            tokens=None if watch.usage is None else tokens_of(watch.usage),
            finish_reasons=tuple(watch.reasons),
        )
        self._traces.attempt(fact)


def tokens_of(usage: Usage) -> Tokens:
    return Tokens(
        prompt=usage.prompt_tokens,
        cached=usage.cached_tokens,
        completion=usage.completion_tokens,
        reasoning=usage.reasoning_tokens,
    )


def operation_of(request: Completion) -> Operation:
    return "text_completion" if request.messages is None else "chat"


def provider_of(host: str, dialect: str) -> str:
    """Whose API it is; of a server that only speaks like one, whose it is like."""
    parts = host.lower().rstrip(".").split(".")
    return PROVIDERS.get(".".join(parts[-2:]), dialect)


def outcome_of(
    failure: BaseException | None, *, answered: bool
) -> Literal["answered", "failed", "cancelled"]:
    if answered:
        return "answered"
    return "failed" if isinstance(failure, Exception) else "cancelled"

"""Facts as OpenTelemetry's GenAI conventions have them: names, attributes, times. Pure.

The conventions are "in development" (semantic-conventions-genai, November 2026); a test holds the
names to those of the installed package. Text of requests is in none of them but for `Content`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from tokenworks.telemetry.facts import AttemptFact, Content, RequestFact, Tokens
from tokenworks.telemetry.trace import TraceContext

LONGEST_ROUTE: Final = 8000
"""Characters of a decision's explanation in a span."""

OURS: Final = "tokenworks"
Value = str | int | float | bool | Sequence[str]
Attributes = dict[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Times in nanoseconds since 1970 UTC. `failed`: it ended in an error."""

    name: str
    kind: Literal["server", "client", "internal"]
    trace: TraceContext
    starts: int
    ends: int
    attributes: Attributes
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One value of a histogram of the conventions."""

    metric: Literal["gen_ai.client.operation.duration", "gen_ai.client.token.usage"]
    value: float
    attributes: Attributes


def request_span(fact: RequestFact) -> Span | None:
    """None for a request that nobody traces."""
    if fact.trace is None:
        return None
    attributes: Attributes = {
        "gen_ai.operation.name": fact.operation,
        "gen_ai.provider.name": OURS,
        "gen_ai.request.model": fact.model,
        "tokenworks.request_id": fact.request_id,
        "tokenworks.label": fact.label,
        "tokenworks.tenant": fact.tenant,
        "tokenworks.status": fact.status,
        "tokenworks.backend": fact.backend,
        "tokenworks.attempts": len(fact.asked),
        "tokenworks.money_micro_dollars": fact.money,
        "tokenworks.route": msgspec.json.encode(fact.route).decode()[:LONGEST_ROUTE],
        **_usage(fact.tokens),
    }
    if fact.first_token_s is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = fact.first_token_s
    if fact.energy_j is not None:
        attributes["tokenworks.energy_joules"] = fact.energy_j
    if fact.error:
        attributes["error.type"] = fact.error
    if fact.content is not None:
        attributes |= _said(fact.content)
    return Span(
        name=f"{fact.operation} {fact.model}",
        kind="server",
        trace=fact.trace,
        starts=_nanoseconds(fact.began),
        ends=_nanoseconds(fact.began + fact.took_s),
        attributes=attributes,
        failed=bool(fact.error),
    )


def attempt_span(fact: AttemptFact) -> Span:
    attributes = _of_attempt(fact) | {
        "tokenworks.request_id": fact.request_id,
        "tokenworks.backend": fact.backend,
        "tokenworks.tier": fact.tier,
        "tokenworks.outcome": fact.outcome,
        "tokenworks.resumed": fact.resumed,
        **(_usage(fact.tokens) if fact.tokens is not None else {}),
    }
    if fact.operation != "embeddings":
        attributes["gen_ai.request.stream"] = True
    if fact.first_chunk_s is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = fact.first_chunk_s
    if fact.finish_reasons:
        attributes["gen_ai.response.finish_reasons"] = fact.finish_reasons
    if fact.status:
        attributes["http.response.status_code"] = fact.status
    return Span(
        name=f"{fact.operation} {fact.their_model}",
        kind="client" if fact.address else "internal",
        trace=fact.trace,
        starts=_nanoseconds(fact.began),
        ends=_nanoseconds(fact.began + fact.took_s),
        attributes=attributes,
        failed=fact.outcome == "failed",
    )


def measurements(fact: AttemptFact) -> list[Measurement]:
    of = _of_attempt(fact)
    found = [
        Measurement(metric="gen_ai.client.operation.duration", value=fact.took_s, attributes=of)
    ]
    if fact.tokens is not None:
        counts = {"input": fact.tokens.prompt, "output": fact.tokens.completion}
        found += [
            Measurement(
                metric="gen_ai.client.token.usage",
                value=count,
                attributes=of | {"gen_ai.token.type": kind},
            )
            for kind, count in counts.items()
        ]
    return found


def _of_attempt(fact: AttemptFact) -> Attributes:
    """What spans and measurements of an attempt have in common."""
    attributes: Attributes = {
        "gen_ai.operation.name": fact.operation,
        "gen_ai.provider.name": fact.provider,
        "gen_ai.request.model": fact.their_model,
    }
    if fact.address:
        attributes |= {"server.address": fact.address, "server.port": fact.port}
    if fact.error:
        attributes["error.type"] = str(fact.status) if fact.status >= 400 else fact.error
    return attributes


def _usage(tokens: Tokens) -> Attributes:
    found: Attributes = {
        "gen_ai.usage.input_tokens": tokens.prompt,
        "gen_ai.usage.output_tokens": tokens.completion,
    }
    if tokens.cached:
        found["gen_ai.usage.cache_read.input_tokens"] = tokens.cached
    if tokens.reasoning:
        found["gen_ai.usage.reasoning.output_tokens"] = tokens.reasoning
    return found


def _said(content: Content) -> Attributes:
    """Messages as the conventions' JSON schema has them."""
    said = [_message(str(one.get("role", "user")), one) for one in content.messages]
    found: Attributes = {"gen_ai.input.messages": msgspec.json.encode(said).decode()}
    if content.answer:
        answer = [_message("assistant", {"content": content.answer})]
        found["gen_ai.output.messages"] = msgspec.json.encode(answer).decode()
    return found


def _message(role: str, message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content") or ""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return {"role": role, "parts": [{"type": "text", "content": text} for text in texts]}


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)

"""Decides whether a request can be taken at all, and says in numbers why not."""

import math
from dataclasses import dataclass

from tokenworks.inference.messages import Generate, Refused, Sampling

MOST_LOGPROBS = 128
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the engine can hold. `held`: requests that run or wait, at most."""

    vocabulary: int
    context_length: int
    held: int


def refusal(request: Generate, limits: Limits) -> Refused | None:
    """Why this request could never be answered here, or None."""
    if problem := _invalid(request, limits.vocabulary):
        return Refused(request_id=request.request_id, reason="invalid", message=problem)
    total = len(request.prompt) + request.sampling.max_tokens
    if total > limits.context_length:
        return Refused(
            request_id=request.request_id,
            reason="too_long",
            message=f"{len(request.prompt)} prompt tokens and up to "
            f"{request.sampling.max_tokens} new ones are {total}; "
            f"this engine holds {limits.context_length}",
        )
    return None


def queue_full(request: Generate, limits: Limits, *, work: int, tokens_per_s: float) -> Refused:
    """The refusal of a request beyond `limits.held`.

    `work` is the number of rows still to be computed for all that is held: a place becomes free
    every `work / tokens_per_s / held` seconds on average.
    """
    wait_s = work / tokens_per_s / limits.held if tokens_per_s > 0 else _SHORTEST_WAIT_S
    return Refused(
        request_id=request.request_id,
        reason="queue_full",
        message=f"{limits.held} requests run or wait already",
        retry_after_s=min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S),
    )


def _invalid(request: Generate, vocabulary: int) -> str | None:
    if not request.prompt:
        return "the prompt has no tokens"
    for name, tokens in (("prompt", request.prompt), ("generated", request.generated)):
        if tokens and not 0 <= min(tokens) <= max(tokens) < vocabulary:
            return f"{name} has token ids outside of 0 to {vocabulary - 1}"
    if len(request.generated) >= request.sampling.max_tokens:
        return (
            f"max_tokens {request.sampling.max_tokens} leaves nothing to generate "
            f"after {len(request.generated)} tokens"
        )
    if not set(request.sampling.stop_tokens).isdisjoint(request.generated):
        return "generated holds a stop token: the answer is complete"
    return _invalid_sampling(request.sampling)


def _invalid_sampling(sampling: Sampling) -> str | None:
    checks = (
        (math.isfinite(sampling.temperature) and sampling.temperature >= 0, "temperature", ">= 0"),
        (0 < sampling.top_p <= 1, "top_p", "above 0 and at most 1"),
        (0 <= sampling.min_p <= 1, "min_p", "between 0 and 1"),
        (sampling.top_k >= 0, "top_k", ">= 0"),
        (0 <= (sampling.logprobs or 0) <= MOST_LOGPROBS, "logprobs", f"at most {MOST_LOGPROBS}"),
    )
    for holds, name, wanted in checks:
        if not holds:
            return f"{name} {getattr(sampling, name)} is not {wanted}"
    return None

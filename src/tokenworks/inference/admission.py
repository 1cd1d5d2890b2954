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
    if problem := _invalid(request, limits):
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


def _invalid(request: Generate, limits: Limits) -> str | None:
    if not request.prompt:
        return "the prompt has no tokens"
    answers = 1 + len(request.siblings)
    if answers > limits.held:
        return f"{answers} answers are asked for; this engine holds {limits.held}"
    if not _known(request.prompt, limits.vocabulary):
        return f"prompt has token ids outside of 0 to {limits.vocabulary - 1}"
    for generated in (request.generated, *(sibling.generated for sibling in request.siblings)):
        if problem := _invalid_beginning(generated, request.sampling, limits.vocabulary):
            return problem
    return _invalid_sampling(request.sampling) or _invalid_steering(request.sampling, limits)


def _known(tokens: list[int], vocabulary: int) -> bool:
    return not tokens or 0 <= min(tokens) <= max(tokens) < vocabulary


def _invalid_beginning(generated: list[int], sampling: Sampling, vocabulary: int) -> str | None:
    if not _known(generated, vocabulary):
        return f"generated has token ids outside of 0 to {vocabulary - 1}"
    if len(generated) >= sampling.max_tokens:
        return (
            f"max_tokens {sampling.max_tokens} leaves nothing to generate "
            f"after {len(generated)} tokens"
        )
    if not set(sampling.stop_tokens).isdisjoint(generated):
        return "generated holds a stop token: the answer is complete"
    return None


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


def _invalid_steering(sampling: Sampling, limits: Limits) -> str | None:
    repetition = sampling.repetition_penalty
    checks = (
        (math.isfinite(sampling.presence_penalty), "presence_penalty", "a finite number"),
        (math.isfinite(sampling.frequency_penalty), "frequency_penalty", "a finite number"),
        (math.isfinite(repetition) and repetition > 0, "repetition_penalty", "above 0"),
        (all(math.isfinite(bias) for _, bias in sampling.logit_bias), "logit_bias", "finite"),
        (0 <= sampling.min_tokens <= sampling.max_tokens, "min_tokens", "from 0 to max_tokens"),
    )
    for holds, name, wanted in checks:
        if not holds:
            return f"{name} {getattr(sampling, name)} is not {wanted}"
    if not _known([token for token, _ in sampling.logit_bias], limits.vocabulary):
        return f"logit_bias has token ids outside of 0 to {limits.vocabulary - 1}"
    return None

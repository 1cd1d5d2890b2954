"""Decides whether a request can be taken at all, and says in numbers why not."""

import math
from dataclasses import dataclass

from tokenworks.inference.messages import Generate, Refused, Sampling
from tokenworks.inference.queueing import HIGHEST_PRIORITY, LOWEST_PRIORITY

MOST_LOGPROBS = 128
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the engine can hold. `held`: requests that run or wait, at most; `wait_s`: seconds that
    one may come to wait for its first token, at most."""

    vocabulary: int
    context_length: int
    held: int
    wait_s: float = math.inf

    def full(self, held: int, own: int, tenants: int) -> bool:
        """Whether `held` requests are too many, `own` of them by one of so many tenants.

        A tenant that has no more than its part of the places is let in although others fill them,
        as long as all are not twice too many.
        """
        return held > self.held and (own > self.held // tenants or held > 2 * self.held)


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


def queue_full(request: Generate, limits: Limits, place_s: float) -> Refused:
    """The refusal of a request beyond `limits.held`, when a place becomes free in `place_s`."""
    return Refused(
        request_id=request.request_id,
        reason="queue_full",
        message=f"{limits.held} requests run or wait already",
        retry_after_s=_retry_after(place_s),
    )


def too_late(request: Generate, limits: Limits, first_token_s: float) -> Refused | None:
    """The refusal of a request whose first token would come too late, in `first_token_s`, or None.

    Its own deadline counts, and `limits.wait_s`.
    """
    deadline_s = request.deadline_s
    expected = f"the first token would come in about {first_token_s:.1f} s"
    if deadline_s is not None and first_token_s > deadline_s:
        return Refused(
            request_id=request.request_id,
            reason="deadline",
            message=f"{expected}, after the deadline of {deadline_s:g} s",
            retry_after_s=_retry_after(first_token_s - deadline_s),
        )
    if first_token_s > limits.wait_s:
        return Refused(
            request_id=request.request_id,
            reason="queue_full",
            message=f"{expected}; nobody is let in to wait more than {limits.wait_s:g} s",
            retry_after_s=_retry_after(first_token_s - limits.wait_s),
        )
    return None


def _retry_after(seconds: float) -> float:
    return min(max(seconds, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)


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
    return (
        _invalid_urgency(request)
        or _invalid_sampling(request.sampling)
        or _invalid_steering(request.sampling, limits)
    )


def _invalid_urgency(request: Generate) -> str | None:
    if not LOWEST_PRIORITY <= request.priority <= HIGHEST_PRIORITY:
        return (
            f"priority {request.priority} is not between {LOWEST_PRIORITY} and {HIGHEST_PRIORITY}"
        )
    if request.deadline_s is not None and not 0 < request.deadline_s < math.inf:
        return f"deadline_s {request.deadline_s} is not above 0"
    return None


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

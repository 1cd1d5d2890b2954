"""What is refused at the door, and whether the reason says what to change."""

import dataclasses
import math
from typing import Any

import pytest
from msgspec import structs

from tokenworks.inference.admission import Limits, queue_full, refusal, too_late
from tokenworks.inference.messages import Generate, Sampling

LIMITS = Limits(vocabulary=100, context_length=64, held=10)


def request(
    prompt: list[int] | None = None, generated: list[int] | None = None, **sampling: Any
) -> Generate:
    return Generate(
        request_id="r",
        prompt=[1, 2, 3] if prompt is None else prompt,
        sampling=Sampling(**{"max_tokens": 8, **sampling}),
        generated=generated or [],
    )


def test_a_request_that_just_fits_is_taken() -> None:
    assert refusal(request([0] * 56), LIMITS) is None


def test_a_request_that_can_never_fit_is_refused_with_numbers() -> None:
    refused = refusal(request([0] * 57), LIMITS)

    assert refused is not None
    assert refused.reason == "too_long"
    assert refused.message == ("57 prompt tokens and up to 8 new ones are 65; this engine holds 64")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (request([]), "the prompt has no tokens"),
        (request([1, 100]), "prompt has token ids outside of 0 to 99"),
        (request([-1]), "prompt has token ids outside of 0 to 99"),
        (request(generated=[100]), "generated has token ids outside of 0 to 99"),
        (request(max_tokens=0), "max_tokens 0 leaves nothing"),
        (request(max_tokens=2, generated=[4, 5]), "max_tokens 2 leaves nothing"),
        (request(stop_tokens=(5,), generated=[5]), "the answer is complete"),
        (request(temperature=-0.1), "temperature -0.1"),
        (request(temperature=math.nan), "temperature nan"),
        (request(top_p=0.0), "top_p 0.0"),
        (request(top_p=1.5), "top_p 1.5"),
        (request(min_p=-1.0), "min_p -1.0"),
        (request(top_k=-1), "top_k -1"),
        (request(logprobs=1000), "logprobs 1000"),
        (request(presence_penalty=math.nan), "presence_penalty nan"),
        (request(frequency_penalty=math.inf), "frequency_penalty inf"),
        (request(repetition_penalty=0.0), "repetition_penalty 0.0 is not above 0"),
        (request(logit_bias=((1, math.inf),)), "is not finite"),
        (request(logit_bias=((100, 1.0),)), "logit_bias has token ids outside of 0 to 99"),
        (request(min_tokens=9), "min_tokens 9 is not from 0 to max_tokens"),
    ],
)
def test_an_invalid_request_is_refused_with_its_reason(bad: Generate, said: str) -> None:
    refused = refusal(bad, LIMITS)

    assert refused is not None
    assert refused.reason == "invalid"
    assert said in refused.message


@pytest.mark.parametrize(("place_s", "retry_after_s"), [(2.0, 2.0), (0.1, 1.0), (10**9, 60.0)])
def test_a_full_queue_says_when_a_place_is_free(place_s: float, retry_after_s: float) -> None:
    refused = queue_full(request(), LIMITS, place_s)

    assert refused.reason == "queue_full"
    assert refused.message == "10 requests run or wait already"
    assert refused.retry_after_s == retry_after_s


@pytest.mark.parametrize(
    ("held", "own", "tenants", "full"),
    [
        (10, 10, 1, False),
        (11, 11, 1, True),
        (11, 5, 2, False),  # others fill the places, and it has no more than its half
        (11, 6, 2, True),
        (20, 1, 9, False),
        (21, 1, 9, True),
    ],
)
def test_places_are_for_all_tenants(held: int, own: int, tenants: int, full: bool) -> None:
    assert LIMITS.full(held, own, tenants) == full


def test_who_comes_in_time_is_let_in() -> None:
    limits = dataclasses.replace(LIMITS, wait_s=30.0)

    assert too_late(request(), limits, 30.0) is None
    assert too_late(structs.replace(request(), deadline_s=30.0), limits, 30.0) is None


@pytest.mark.parametrize(
    ("deadline_s", "reason", "said", "retry_after_s"),
    [
        (None, "queue_full", "in about 40.0 s; nobody is let in to wait more than 30 s", 10.0),
        (35.0, "deadline", "in about 40.0 s, after the deadline of 35 s", 5.0),
    ],
)
def test_who_would_come_too_late_is_told_so(
    deadline_s: float | None, reason: str, said: str, retry_after_s: float
) -> None:
    limits = dataclasses.replace(LIMITS, wait_s=30.0)

    refused = too_late(structs.replace(request(), deadline_s=deadline_s), limits, 40.0)

    assert refused is not None
    assert refused.reason == reason
    assert said in refused.message
    assert refused.retry_after_s == retry_after_s

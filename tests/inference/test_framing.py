"""Messages on a stream: whole whatever the cuts, refused when they make no sense."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.errors import EngineError
from tokenworks.inference.framing import MAX_MESSAGE_BYTES, Unframer, frame
from tokenworks.inference.messages import (
    Alternative,
    Cancel,
    Failed,
    FromWorker,
    Generate,
    Ready,
    Refused,
    Sampling,
    Step,
    Token,
    ToWorker,
)

TO_WORKER: list[ToWorker] = [
    Generate(request_id="a", prompt=[1, 2, 70000], sampling=Sampling(max_tokens=3, seed=2**62)),
    Cancel(request_id="a"),
    Generate(
        request_id="c",
        prompt=[1],
        sampling=Sampling(max_tokens=3),
        tenant="t",
        priority=-10,
        deadline_s=0.5,
    ),
    Generate(
        request_id="b",
        prompt=[1],
        generated=[5],
        sampling=Sampling(max_tokens=3, stop_tokens=(1, 2), logprobs=0),
    ),
]
FROM_WORKER: list[FromWorker] = [
    Ready(
        model="m", executor="e", context_length=9, model_length=9, pages_total=3, max_sequences=2
    ),
    Step(
        tokens=[
            Token(request_id="a", token=1, cached_tokens=0),
            Token(
                request_id="b",
                token=2,
                finish_reason="stop",
                logprob=-0.5,
                alternatives=(Alternative(2, -0.5),),
            ),
        ],
        failed=[Failed(request_id="c", message="no", reason="deadline")],
        running=1,
        waiting=2,
        pages_used=3,
    ),
    Refused(request_id="d", reason="queue_full", message="full", retry_after_s=2.0),
    Refused(request_id="e", reason="deadline", message="late", retry_after_s=2.0),
]


def to_worker() -> Unframer[ToWorker]:
    return Unframer(msgspec.msgpack.Decoder(ToWorker))


@given(cuts=st.lists(st.integers(1, 40)))
def test_messages_survive_any_cutting(cuts: list[int]) -> None:
    unframer = Unframer(msgspec.msgpack.Decoder(FromWorker))
    stream = b"".join(map(frame, FROM_WORKER))
    received: list[FromWorker] = []
    for cut in cuts:
        received += unframer.feed(stream[:cut])
        stream = stream[cut:]
    received += unframer.feed(stream)

    assert received == FROM_WORKER


def test_messages_to_the_worker_read_back_the_same() -> None:
    assert list(to_worker().feed(b"".join(map(frame, TO_WORKER)))) == TO_WORKER


def test_a_length_over_the_limit_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(EngineError, match=f"over {MAX_MESSAGE_BYTES}"):
        list(to_worker().feed((MAX_MESSAGE_BYTES + 1).to_bytes(4, "big")))


@given(body=st.binary(max_size=60))
def test_bytes_that_are_no_message_are_an_error(body: bytes) -> None:
    with pytest.raises(EngineError, match="cannot be read"):
        list(to_worker().feed(len(body).to_bytes(4, "big") + body))


def test_a_message_over_the_limit_is_not_sent() -> None:
    prompt = [70000] * (MAX_MESSAGE_BYTES // 5 + 1)

    with pytest.raises(EngineError, match=f"over {MAX_MESSAGE_BYTES}"):
        frame(Generate(request_id="a", prompt=prompt, sampling=Sampling(max_tokens=1)))

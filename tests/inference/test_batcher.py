"""The batcher: who runs next, in what order, and who gives way."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from batching import add, make_batcher, run
from tokenworks.inference.sequence import Chunk, Sequence


def test_a_long_prompt_is_computed_in_chunks_of_the_budget() -> None:
    batcher = make_batcher(max_batch_tokens=32)
    add(batcher, "a", list(range(70)))

    assert [run(batcher) for _ in range(4)] == [[("a", 32)], [("a", 32)], [("a", 6)], [("a", 1)]]


def test_decoding_rows_come_before_prefill() -> None:
    batcher = make_batcher(max_batch_tokens=32)
    add(batcher, "a", [1, 2, 3])
    run(batcher)
    add(batcher, "b", list(range(50)))

    assert run(batcher) == [("a", 1), ("b", 31)]
    assert run(batcher) == [("a", 1), ("b", 19)]


def test_prompts_as_long_as_each_other_are_computed_in_order_of_arrival() -> None:
    batcher = make_batcher(max_batch_tokens=32)
    for name in "abc":
        add(batcher, name, [ord(name)] * 20)

    assert run(batcher) == [("a", 20), ("b", 12)]
    assert run(batcher) == [("a", 1), ("b", 8), ("c", 20)]


def test_no_more_sequences_run_than_allowed() -> None:
    batcher = make_batcher(max_sequences=2)
    for name in "abc":
        add(batcher, name, [1], max_tokens=2)

    assert run(batcher) == [("a", 1), ("b", 1)]
    assert run(batcher) == [("a", 1), ("b", 1)]
    assert run(batcher) == [("c", 1)]


def test_the_newest_sequence_gives_way_when_pages_run_out() -> None:
    batcher = make_batcher(pages=3)
    add(batcher, "a", list(range(16)), max_tokens=10)
    newest = add(batcher, "b", list(range(100, 116)), max_tokens=10)
    assert run(batcher) == [("a", 16), ("b", 16)]

    assert run(batcher) == [("a", 1)]

    assert list(batcher.waiting) == [newest]
    assert newest.tokens == [*range(100, 116), 1]
    assert batcher.preemptions == 1


def test_a_sequence_that_gave_way_is_first_to_come_back() -> None:
    batcher = make_batcher(pages=3)
    add(batcher, "a", list(range(16)), max_tokens=3)
    add(batcher, "b", list(range(100, 116)), max_tokens=3)
    add(batcher, "c", list(range(200, 216)), max_tokens=3)
    batches = []
    while batcher.running or batcher.waiting:
        batches.append(run(batcher))
        batcher.check_integrity()

    last_batch = {name: n for n, batch in enumerate(batches) for name, _ in batch}
    assert last_batch["a"] < last_batch["b"] <= last_batch["c"]
    assert batcher.preemptions > 0


def test_a_shared_beginning_is_not_computed_again() -> None:
    batcher = make_batcher()
    beginning = list(range(32))
    add(batcher, "a", [*beginning, 50])
    run(batcher)
    run(batcher)
    second = add(batcher, "b", [*beginning, 60, 61])

    assert ("b", 2) in run(batcher)
    assert second.cached == 32


def test_removing_a_running_sequence_frees_its_pages() -> None:
    batcher = make_batcher()
    running = add(batcher, "a", list(range(20)))
    run(batcher)
    waiting = add(batcher, "b", [1, 2])
    batcher.remove(waiting)
    batcher.remove(running)

    assert len(batcher) == 0
    assert batcher.pool.used == 0
    batcher.check_integrity()


Request = tuple[int, int, int]  # prompt length, tokens to generate, first prompt token

requests = st.lists(
    st.tuples(st.integers(1, 60), st.integers(1, 40), st.integers(0, 2)), min_size=1, max_size=12
)


@settings(max_examples=120, deadline=None)
@given(
    requests=requests,
    pages=st.integers(7, 20),
    max_sequences=st.integers(1, 6),
    extra_rows=st.integers(0, 40),
    arrivals=st.integers(1, 4),
    stall_s=st.sampled_from([0.0, 0.01, 0.03, math.inf]),
)
def test_every_request_is_answered_within_all_limits(
    requests: list[Request],
    pages: int,
    max_sequences: int,
    extra_rows: int,
    arrivals: int,
    stall_s: float,
) -> None:
    budget = max_sequences + extra_rows
    batcher = make_batcher(
        pages=pages, max_sequences=max_sequences, max_batch_tokens=budget, stall_s=stall_s
    )
    to_come = list(enumerate(requests))
    arrived: list[Sequence] = []
    rounds = 0
    while to_come or len(batcher):
        for number, (prompt, max_tokens, token) in to_come[:arrivals]:
            more = {"priority": number % 3, "tenant": "ab"[number % 2], "arrived": rounds * 0.01}
            arrived.append(add(batcher, str(number), [token] * prompt, max_tokens, **more))
        del to_come[:arrivals]
        rows = run(batcher)
        assert 0 < sum(length for _, length in rows) <= budget
        assert len({name for name, _ in rows}) == len(rows) <= max_sequences
        batcher.check_integrity()
        rounds += 1
        assert rounds < 5_000, "no progress"

    assert all(sequence.generated == sequence.sampling.max_tokens for sequence in arrived)
    assert batcher.pool.used == 0


@settings(max_examples=60, deadline=None)
@given(decoding=st.integers(1, 6), prompt=st.integers(2, 60))
def test_a_long_prompt_never_keeps_anybody_from_decoding(decoding: int, prompt: int) -> None:
    batcher = make_batcher(max_sequences=7, max_batch_tokens=8)
    for number in range(decoding):
        add(batcher, str(number), [number])
    run(batcher)
    add(batcher, "long", [9] * prompt)

    rows = run(batcher)

    assert rows[:decoding] == [(str(number), 1) for number in range(decoding)]
    assert rows[decoding:] == [("long", min(prompt, 8 - decoding))]


def test_a_chunk_completes_only_at_the_last_known_token() -> None:
    sequence = add(make_batcher(), "a", [1, 2, 3])

    assert not Chunk(sequence, 2).completes
    assert Chunk(sequence, 3).completes

"""The batcher: who runs next, in what order, and who gives way."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from batching import add, make_batcher, run
from tokenworks.inference.batcher import Batcher
from tokenworks.inference.sequence import Chunk, Sequence
from tokenworks.inference.sharing import LEAST_SAVED


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


def test_a_beginning_that_another_is_computing_is_waited_for() -> None:
    batcher = make_batcher()
    beginning = list(range(70))
    add(batcher, "a", [*beginning, 90])
    second = add(batcher, "b", [*beginning, 91, 92])

    assert [run(batcher) for _ in range(2)] == [[("a", 32)], [("a", 32)]]
    assert run(batcher) == [("a", 7), ("b", 8)]  # six more rows are not worth waiting for
    assert second.cached == 64


def test_who_has_nothing_in_common_goes_past_who_waits() -> None:
    batcher = make_batcher(max_batch_tokens=64)
    beginning = list(range(40))
    add(batcher, "a", [*beginning, 90])
    add(batcher, "b", [*beginning, 91])
    add(batcher, "c", [70, 71, 72], arrived=1.0)

    assert run(batcher) == [("a", 41), ("c", 3)]
    assert run(batcher) == [("a", 1), ("c", 1), ("b", 1)]


def test_who_waits_keeps_a_place() -> None:
    batcher = make_batcher(max_sequences=2, max_batch_tokens=64)
    add(batcher, "a", [*range(40), 90])
    add(batcher, "b", [*range(40), 91])
    add(batcher, "c", [70, 71, 72], arrived=1.0)

    assert run(batcher) == [("a", 41)]
    assert run(batcher) == [("a", 1), ("b", 1)]


def test_who_waits_keeps_the_pages_that_it_will_need() -> None:
    batcher = make_batcher(pages=6, max_batch_tokens=64)
    add(batcher, "a", [*range(40), 90])  # three pages
    add(batcher, "b", [*range(40), *range(50, 58)])  # three, two of them a's
    add(batcher, "c", [70] * 33, arrived=1.0)  # three

    assert run(batcher) == [("a", 41)]
    assert run(batcher) == [("a", 1), ("b", 8)]


def test_a_short_common_beginning_is_not_waited_for() -> None:
    batcher = make_batcher(max_batch_tokens=64)
    add(batcher, "a", [*range(LEAST_SAVED - 1), *[90] * 30])
    add(batcher, "b", [*range(LEAST_SAVED - 1), *[91] * 30])

    assert run(batcher) == [("a", 37), ("b", 27)]


def test_what_is_known_already_does_not_count_as_saved() -> None:
    batcher = make_batcher(max_batch_tokens=64)
    batcher.remove(add_and_run(batcher, list(range(40))))
    common = list(range(40 + LEAST_SAVED - 1))
    add(batcher, "a", [*common, *[90] * 10])
    add(batcher, "b", [*common, *[91] * 10])

    assert run(batcher) == [("a", 17), ("b", 17)]


def add_and_run(batcher: Batcher, prompt: list[int]) -> Sequence:
    sequence = add(batcher, "before", prompt)
    run(batcher)
    return sequence


def test_who_waits_for_one_that_goes_away_starts() -> None:
    batcher = make_batcher()
    first = add(batcher, "a", list(range(70)))
    add(batcher, "b", list(range(70)))
    assert run(batcher) == [("a", 32)]
    batcher.remove(first)

    assert run(batcher) == [("b", 32)]  # from where the other was
    assert run(batcher) == [("b", 6)]


def test_who_waits_for_another_lends_it_its_turn() -> None:
    batcher = make_batcher(max_batch_tokens=32)
    beginning = list(range(100))
    add(batcher, "low", [*beginning, 200, 201], priority=-1)
    run(batcher)
    add(batcher, "stranger", [90] * 150)
    add(batcher, "urgent", [*beginning, 202], priority=1)

    assert [run(batcher) for _ in range(2)] == [[("low", 32)], [("low", 32)]]
    assert run(batcher)[0] == ("urgent", 5)  # four more rows are not worth waiting for


def test_another_tenants_beginning_is_not_waited_for() -> None:
    batcher = make_batcher(max_batch_tokens=128)
    add(batcher, "a", [*range(40), 90])
    add(batcher, "b", [*range(40), 91], tenant="other")

    assert run(batcher) == [("a", 41), ("b", 41)]


def test_two_tenants_compute_a_public_beginning_once() -> None:
    batcher = make_batcher(max_batch_tokens=128)
    add(batcher, "a", [*range(40), 90], public=40)
    add(batcher, "b", [*range(40), 91], tenant="other", public=45)

    assert run(batcher) == [("a", 41)]
    assert run(batcher) == [("a", 1), ("b", 9)]  # two whole pages are public


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
    alike=st.booleans(),
)
def test_every_request_is_answered_within_all_limits(
    requests: list[Request],
    pages: int,
    max_sequences: int,
    extra_rows: int,
    arrivals: int,
    stall_s: float,
    alike: bool,
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
            tokens = [token if alike else 100 + number] * prompt
            arrived.append(add(batcher, str(number), tokens, max_tokens, **more))
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

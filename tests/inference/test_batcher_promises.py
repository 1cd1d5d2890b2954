"""What the batcher promises: no long stall, no starvation, a fair part, and nothing done twice."""

from hypothesis import given, settings
from hypothesis import strategies as st

from batching import ROW_S, add, make_batcher, run
from tokenworks.inference.batcher import Batcher
from tokenworks.inference.forward_cost import KNOTS, ForwardCost
from tokenworks.inference.row_budget import FEWEST_ROWS
from tokenworks.inference.sequence import Sequence


def test_short_prompts_overtake_a_long_one_that_is_being_computed() -> None:
    batcher = make_batcher(max_batch_tokens=32)
    add(batcher, "long", list(range(200)))
    assert run(batcher) == [("long", 32)]
    for name in "ab":
        add(batcher, name, [ord(name)] * 10, arrived=0.05)

    assert run(batcher) == [("a", 10), ("b", 10), ("long", 12)]


def test_a_long_prompt_whose_turn_it_is_leaves_half_of_the_rows_to_a_shorter_one() -> None:
    batcher = make_batcher(max_batch_tokens=32)
    add(batcher, "long", list(range(200)))
    run(batcher)
    add(batcher, "short", [1] * 100, arrived=1000.0)

    assert run(batcher) == [("long", 16), ("short", 16)]


def test_what_a_shorter_prompt_does_not_take_goes_back_to_the_long_one() -> None:
    batcher = make_batcher(max_batch_tokens=32)
    add(batcher, "long", list(range(200)))
    run(batcher)
    add(batcher, "short", [1] * 10, arrived=1000.0)

    assert run(batcher) == [("long", 22), ("short", 10)]


def test_a_prompt_as_long_waits_until_the_one_before_it_is_read() -> None:
    batcher = make_batcher(max_batch_tokens=32)
    add(batcher, "first", list(range(64)))
    add(batcher, "second", list(range(100, 164)), arrived=1.0)

    assert [run(batcher) for _ in range(2)] == [[("first", 32)], [("first", 32)]]


def test_a_long_prompt_is_not_overtaken_for_ever() -> None:
    """Twice as many short prompts arrive as can be computed."""
    batcher = make_batcher(pages=500, max_batch_tokens=32, max_sequences=8)
    long = add(batcher, "long", list(range(200)), max_tokens=1)
    rounds = 0
    while long.computed < 200 and len(long.tokens) == 200:
        for number in range(4):
            unlike = [rounds % 1000, number, *range(14)]
            add(batcher, f"{rounds}-{number}", unlike, max_tokens=1, arrived=rounds * 32 * ROW_S)
        run(batcher)
        rounds += 1
        assert rounds * 32 * ROW_S < 2 * 21 * 200 * ROW_S, "starved"

    assert rounds > 100, "it was not even overtaken"


def test_higher_priority_goes_first_and_low_priority_is_not_starved() -> None:
    batcher = make_batcher(pages=500, max_sequences=1, max_batch_tokens=32)
    low = add(batcher, "low", [1] * 16, max_tokens=1, priority=-1)
    rounds = 0
    while low.generated == 0:
        add(batcher, str(rounds), [2] * 16, max_tokens=1, priority=1, arrived=float(rounds))
        (done,) = run(batcher)
        assert done[0] in ("low", str(rounds))
        rounds += 1
        assert rounds < 25, "starved"

    assert rounds >= 20, "two levels of priority are worth more than this"


def test_beside_answers_prompts_get_the_rows_that_there_is_time_for() -> None:
    batcher = make_batcher(max_batch_tokens=256, stall_s=0.03)
    add(batcher, "a", [1] * 10, max_tokens=50)
    run(batcher)
    add(batcher, "long", list(range(300)))

    (answer, prompt) = run(batcher)

    assert answer == ("a", 1)
    assert prompt[0] == "long"
    assert 26 <= prompt[1] <= 30


def test_when_there_is_no_time_prompts_still_get_a_few_rows() -> None:
    batcher = make_batcher(max_batch_tokens=256, stall_s=0.0)
    add(batcher, "a", [1] * 10, max_tokens=50)
    run(batcher)
    add(batcher, "long", list(range(300)))

    assert run(batcher) == [("a", 1), ("long", FEWEST_ROWS)]


@settings(max_examples=60, deadline=None)
@given(prompts=st.lists(st.integers(1, 100), min_size=1, max_size=12), most=st.integers(12, 200))
def test_no_row_stays_empty_while_a_prompt_wants_it(prompts: list[int], most: int) -> None:
    batcher = make_batcher(pages=500, max_sequences=12, max_batch_tokens=most)
    for number, length in enumerate(prompts):
        add(batcher, str(number), [number] * length, max_tokens=1, tenant=str(number % 3))
    left = sum(prompts)
    while left:
        rows = sum(length for _, length in run(batcher))
        assert rows == min(left, most)
        left -= rows


def test_a_tenant_with_many_requests_does_not_keep_another_waiting() -> None:
    batcher = make_batcher(pages=500, max_sequences=2, max_batch_tokens=32)
    for number in range(30):
        add(batcher, f"many{number}", [number] * 32, max_tokens=1, tenant="many")
    run(batcher)
    for number in range(5):
        add(batcher, f"few{number}", [50 + number] * 32, max_tokens=1, tenant="few", arrived=1.0)
    order = [run(batcher)[0][0] for _ in range(10)]

    assert sum(name.startswith("few") for name in order) == 5
    assert sum(name.startswith("few") for name in order[:3]) >= 1


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=40, max_size=60),
    tenants=st.integers(2, 4),
    max_tokens=st.integers(1, 3),
)
def test_tenants_that_have_requests_waiting_get_equally_many_rows(
    lengths: list[int], tenants: int, max_tokens: int
) -> None:
    batcher = make_batcher(pages=1000, max_sequences=4, max_batch_tokens=32)
    names = [str(number) for number in range(tenants)]
    waiting: dict[str, list[Sequence]] = {name: [] for name in names}
    for number, length in enumerate(lengths):
        tenant = names[number * number % tenants]
        unlike = [number, *range(length)]
        waiting[tenant].append(
            add(batcher, f"{tenant}-{number}", unlike, max_tokens, tenant=tenant)
        )
    asking = [name for name in names if waiting[name]]
    given_rows = dict.fromkeys(names, 0)
    while all(any(not each.runs for each in waiting[name] if each.pending) for name in asking):
        for name, rows in run(batcher):
            given_rows[name.partition("-")[0]] += rows
        for name in asking:
            waiting[name] = [each for each in waiting[name] if each.generated < max_tokens]
        # A batch goes to one of them, and answers that run take what they take.
        counts = [given_rows[name] for name in asking]
        assert max(counts) - min(counts) <= 2 * 32 + 4 * max_tokens


def test_the_newest_of_the_lowest_priority_gives_way() -> None:
    batcher = make_batcher(pages=5, max_sequences=4)
    for name, priority, arrived in (("old", 0, 0), ("low", -1, 1), ("new", 0, 2)):
        prompt = [ord(name[0])] * 15
        add(batcher, name, prompt, max_tokens=20, priority=priority, arrived=float(arrived))
    run(batcher)
    assert [sequence.request_id for sequence in batcher.running] == ["old", "new", "low"]
    while not batcher.preemptions:
        run(batcher)

    assert [sequence.request_id for sequence in batcher.waiting] == ["low"]


def test_who_gave_way_finds_its_pages_if_nobody_needed_them() -> None:
    batcher = make_batcher(pages=8, max_sequences=2, max_batch_tokens=96)
    add(batcher, "old", [1] * 15, max_tokens=40)
    long = add(batcher, "long", list(range(96)), max_tokens=4, arrived=1.0)
    while not batcher.preemptions:
        run(batcher)
        batcher.check_integrity()
    computed = 0
    while long in [*batcher.running, *batcher.waiting]:
        computed += sum(length for name, length in run(batcher) if name == "long")
        batcher.check_integrity()

    assert batcher.preemptions == 1, "it came back only to give way again"
    assert computed < 40


def test_nobody_is_let_in_to_give_way_at_once() -> None:
    batcher = make_batcher(pages=3, max_sequences=4)
    add(batcher, "a", [1] * 16, max_tokens=16)
    run(batcher)
    add(batcher, "b", [2] * 32, max_tokens=2)
    while batcher.waiting:
        run(batcher)
        batcher.check_integrity()

    assert batcher.preemptions == 0


def test_who_is_next_and_does_not_fit_is_not_passed_by_for_ever() -> None:
    batcher = make_batcher(pages=6, max_sequences=4, max_batch_tokens=64)
    add(batcher, "a", [1] * 30, max_tokens=30)
    run(batcher)
    large = add(batcher, "large", [2] * 80, max_tokens=1, priority=5)
    for number in range(40):
        add(batcher, str(number), [3, number], max_tokens=8)
    seen = []
    while not large.generated:
        seen += [name for name, _ in run(batcher)]

    assert set(seen) == {"a", "large"}


def test_who_waits_for_pages_begins_as_soon_as_there_are_enough() -> None:
    batcher = make_batcher(pages=12, max_batch_tokens=96)
    add(batcher, "short", [1] * 40, max_tokens=8)
    add(batcher, "long", [2] * 40, max_tokens=60)
    run(batcher)
    large = add(batcher, "large", [3] * 100, max_tokens=2)
    batches = []
    while not large.generated:
        batches.append({name for name, _ in run(batcher)})

    assert batches[-1] == {"long", "large"}
    assert batches[6] == {"short", "long"}


def run_until(batcher: Batcher, sequence: Sequence, most: int) -> int:
    """Steps until the first token."""
    for steps in range(most):
        if sequence.generated:
            return steps
        run(batcher)
        batcher.check_integrity()
    raise AssertionError("it waits")


def full_of(batcher: Batcher, tenant: str = "") -> list[Sequence]:
    """All places taken by long answers."""
    holders = [
        add(batcher, f"{tenant}{number}", [number] * 20, max_tokens=300, tenant=tenant)
        for number in range(batcher.max_sequences)
    ]
    run_until(batcher, holders[-1], 10)
    return holders


def test_a_place_goes_to_higher_priority_and_comes_back() -> None:
    batcher = make_batcher(pages=500, max_batch_tokens=64)
    holders = full_of(batcher)
    urgent = add(batcher, "urgent", [50] * 20, max_tokens=5, priority=1)

    assert run_until(batcher, urgent, 5) <= 2
    assert list(batcher.waiting) == holders[-1:]
    while urgent.generated < 5:
        run(batcher)
    run(batcher)
    assert set(batcher.running) == set(holders)
    assert batcher.preemptions == 1


def test_no_place_is_given_to_who_is_as_urgent_or_came_too_late() -> None:
    batcher = make_batcher(pages=500, max_batch_tokens=64)
    holders = full_of(batcher)
    add(batcher, "alike", [50] * 20, max_tokens=5)
    add(batcher, "late", [51] * 20, max_tokens=5, priority=2, arrived=25.0)
    for _ in range(20):
        run(batcher)

    assert set(batcher.running) == set(holders)


def test_a_tenant_cannot_hold_all_places_while_another_asks() -> None:
    batcher = make_batcher(pages=500, max_batch_tokens=64)
    full_of(batcher, "many")
    others = [
        add(batcher, f"few{number}", [50 + number] * 20, max_tokens=100, tenant="few")
        for number in range(4)
    ]

    assert run_until(batcher, others[0], 5) <= 2
    assert run_until(batcher, others[1], 30) <= 25
    for _ in range(50):
        run(batcher)
    assert sum(sequence.tenant == "few" for sequence in batcher.running) == 2
    assert batcher.preemptions == 2


@settings(max_examples=30, deadline=None)
@given(
    asked=st.lists(
        st.tuples(
            st.integers(1, 40), st.integers(1, 20), st.sampled_from("abc"), st.integers(-2, 2)
        ),
        min_size=1,
        max_size=25,
    ),
    between=st.integers(0, 3),
)
def test_giving_places_away_ends_and_everybody_is_answered(
    asked: list[tuple[int, int, str, int]], between: int
) -> None:
    batcher = make_batcher(pages=100, max_sequences=3, max_batch_tokens=24, stall_s=0.02)
    sequences = []
    for number, (length, answer, tenant, priority) in enumerate(asked):
        more = {"tenant": tenant, "priority": priority, "arrived": number * 0.1}
        sequences.append(add(batcher, str(number), [number] * length, answer, **more))
        for _ in range(between):
            run(batcher)
    steps = 0
    while len(batcher):
        run(batcher)
        batcher.check_integrity()
        steps += 1
        assert steps < 20 * sum(length + answer for length, answer, _, _ in asked)

    assert all(sequence.generated == sequence.sampling.max_tokens for sequence in sequences)


def test_a_scored_prompt_that_gave_way_gets_a_place_before_its_siblings() -> None:
    """They are first in line by then: forwards were cheaper when they came."""
    batcher = make_batcher(max_sequences=1, max_batch_tokens=32)
    leader = add(batcher, "leader", list(range(60)), scored=0)
    for number in range(2):
        add(batcher, str(number), list(range(60)), leader=leader)
    assert run(batcher) == [("leader", 32)]
    batcher.cost = ForwardCost()
    for rows in KNOTS:
        batcher.cost.record(rows, 0, 3 * ROW_S * rows)
    add(batcher, "urgent", [70] * 20, max_tokens=1, priority=9)

    assert run(batcher) == [("urgent", 20)]
    assert next(iter(batcher.waiting)) is not leader
    assert run(batcher) == [("leader", 32)]

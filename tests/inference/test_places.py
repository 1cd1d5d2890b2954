"""Who gives a place away, and to whom."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenworks.inference.fairness import Shares
from tokenworks.inference.places import giving_way


@dataclass(frozen=True)
class Held:
    tenant: str = ""
    priority: int = 0
    due: float = 0.0


def shares_of(rows: dict[str, int]) -> Shares:
    shares = Shares()
    for tenant in rows:
        shares.join(tenant)
    for tenant, given_rows in rows.items():
        shares.charge(tenant, given_rows)
    return shares


ALONE = shares_of({"": 0})


def test_the_least_urgent_gives_way_to_a_higher_priority() -> None:
    first, last = Held(due=0.0), Held(due=5.0)

    assert giving_way(Held(priority=1, due=-4.0), -3.0, [first, last], ALONE) is last


def test_nobody_gives_way_to_who_is_not_before_him() -> None:
    running = [Held(due=0.0), Held(due=5.0)]

    assert giving_way(Held(priority=1, due=4.0), 6.0, running, ALONE) is None


def test_priority_alike_gives_no_place_however_long_one_waited() -> None:
    running = [Held(due=0.0), Held(due=50.0)]

    assert giving_way(Held(due=1.0), 40.0, running, ALONE) is None


def test_a_tenant_with_more_than_its_part_gives_way_to_one_with_less() -> None:
    running = [Held("a"), Held("b"), Held("a", due=1.0), Held("a", due=2.0)]
    asks = Held("b", due=9.0)

    assert giving_way(asks, 9.0, running, shares_of({"a": 10, "b": 5})) is running[3]
    # Not if the place would go back at once, nor beyond equal parts.
    assert giving_way(asks, 9.0, running, shares_of({"a": 5, "b": 5})) is None
    level = [*running[:2], Held("b", due=1.0), running[3]]
    assert giving_way(asks, 9.0, level, shares_of({"a": 10, "b": 5})) is None


def test_a_priority_is_none_in_the_eyes_of_another_tenant() -> None:
    running = [Held("a"), Held("b")]
    asks = Held("b", priority=10, due=-100.0)

    assert giving_way(asks, -100.0, running[:1], shares_of({"a": 10, "b": 5})) is None
    assert giving_way(asks, -100.0, running, shares_of({"a": 10, "b": 5})) is running[1]


held = st.builds(
    Held, st.sampled_from("abc"), st.integers(-10, 10), st.floats(-1e3, 1e3, allow_nan=False)
)


@settings(deadline=None)
@given(
    asks=held,
    prompt_s=st.floats(0, 100),
    running=st.lists(held, min_size=1, max_size=12),
    rows=st.tuples(*[st.integers(0, 1000)] * 3),
)
def test_who_gives_a_place_comes_after_who_gets_it(
    asks: Held, prompt_s: float, running: list[Held], rows: tuple[int, int, int]
) -> None:
    shares = shares_of(dict(zip("abc", rows, strict=True)))
    turn = asks.due + prompt_s
    running.sort(key=lambda holder: holder.due)

    holder = giving_way(asks, turn, running, shares)

    if holder is not None:
        assert (shares[asks.tenant], turn) < (shares[holder.tenant], holder.due)
        counts = Counter(each.tenant for each in running)
        assert holder.tenant == asks.tenant or counts[asks.tenant] < counts[holder.tenant]

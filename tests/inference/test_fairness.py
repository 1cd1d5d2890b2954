"""Rows between tenants: equally many while they ask, none saved up, nobody held back for long."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenworks.inference.fairness import MOST_OWED, Shares

LARGEST = 300


@settings(deadline=None)
@given(
    asked=st.lists(st.integers(1, LARGEST), min_size=20, max_size=200),
    tenants=st.integers(2, 6),
)
def test_tenants_that_always_ask_are_given_equally_many_rows(
    asked: list[int], tenants: int
) -> None:
    shares = Shares()
    names = [str(number) for number in range(tenants)]
    for name in names:
        shares.join(name)
    given_rows = dict.fromkeys(names, 0)
    for rows in asked:
        least = min(names, key=lambda name: (shares[name], name))
        shares.charge(least, rows)
        given_rows[least] += rows

    assert max(given_rows.values()) - min(given_rows.values()) <= LARGEST


def test_who_comes_anew_starts_level_with_who_was_given_least() -> None:
    shares = Shares()
    for name in ("busy", "idle"):
        shares.join(name)
    shares.charge("busy", 1000)
    shares.charge("idle", 400)

    shares.join("new")

    assert shares["new"] == shares["idle"] == 400


def test_going_away_and_coming_back_forgives_nothing() -> None:
    shares = Shares()
    shares.join("a")
    shares.join("b")
    shares.charge("a", 1000)
    shares.leave("a")

    shares.join("a")

    assert shares["a"] - shares["b"] == 1000


def test_asking_for_nothing_earns_nothing() -> None:
    shares = Shares()
    shares.join("a")
    shares.join("b")
    shares.leave("b")
    shares.charge("a", 1000)

    shares.join("b")

    assert shares["b"] == shares["a"]


def test_who_had_much_while_another_asked_for_little_is_not_held_back_for_ever() -> None:
    shares = Shares()
    shares.join("much")
    shares.join("little")
    shares.charge("much", 10**6)

    shares.settle()

    assert shares["much"] - shares["little"] == MOST_OWED


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.integers(0, 500))))
def test_requests_are_counted_and_those_who_left_are_forgotten(
    events: list[tuple[str, bool, int]],
) -> None:
    shares, held = Shares(), dict.fromkeys("abcd", 0)
    for tenant, comes, rows in events:
        if comes:
            shares.join(tenant)
            held[tenant] += 1
        elif held[tenant]:
            shares.leave(tenant)
            held[tenant] -= 1
        if held[tenant]:
            shares.charge(tenant, rows)
        shares.settle()
        asking = [name for name, count in held.items() if count]
        assert len(shares.asking) == len(asking)
        assert [shares.asking[name] for name in "abcd"] == list(held.values())
        given_rows = [shares[name] for name in asking]
        assert not given_rows or max(given_rows) - min(given_rows) <= MOST_OWED

    for tenant, count in held.items():
        for _ in range(count):
            shares.leave(tenant)
    assert not shares._rows, "whoever does not ask any more is remembered for ever"

"""Draft lengths: as good as any choice there is, and none where none pays."""

from itertools import accumulate, product
from operator import mul

from hypothesis import given
from hypothesis import strategies as st

from tokenworks.inference.speculation.lengths import cheapest_row, choose_lengths

CHANCES = st.lists(
    st.lists(st.floats(0.05, 0.99), max_size=4).map(lambda each: list(accumulate(each, mul))),
    min_size=1,
    max_size=3,
)
STEPS = st.lists(st.floats(0.0, 1.0), min_size=20, max_size=20)


def rate(drafts: list[list[float]], lengths: list[int], costs: list[float]) -> float:
    rows = len(drafts)
    expected = rows + sum(sum(draft[:n]) for draft, n in zip(drafts, lengths, strict=True))
    return expected / costs[rows + sum(lengths)]


@given(CHANCES, STEPS, st.integers(0, 12))
def test_no_choice_is_better(drafts: list[list[float]], steps: list[float], most: int) -> None:
    costs = list(accumulate(steps, initial=1.0))
    rows = len(drafts)
    lengths = choose_lengths(drafts, rows, most, lambda number: costs[number])
    assert sum(lengths) <= most
    best = max(
        rate(drafts, list(choice), costs)
        for choice in product(*(range(len(draft) + 1) for draft in drafts))
        if sum(choice) <= most
    )
    without = rate(drafts, [0] * rows, costs)
    if any(lengths):
        assert rate(drafts, lengths, costs) >= best * (1 - 1e-9)
        assert rate(drafts, lengths, costs) > without * 1.05
    else:
        assert best <= without * 1.05 * (1 + 1e-9)


def test_a_row_as_dear_as_the_first_never_pays() -> None:
    assert cheapest_row(4, 60, lambda rows: 0.01 * rows) > 0.999
    assert choose_lengths([[0.99]] * 4, 4, 60, lambda rows: 0.01 * rows) == [0] * 4


def test_a_free_row_always_pays() -> None:
    assert cheapest_row(1, 60, lambda _: 0.01) == 0.0
    assert choose_lengths([[0.9, 0.5], [0.1]], 2, 60, lambda _: 0.01) == [2, 1]


@given(STEPS)
def test_the_cheapest_row_is_no_dearer_than_any_at_doubling_numbers(steps: list[float]) -> None:
    costs = list(accumulate(steps, initial=1.0))
    worth = cheapest_row(2, 16, lambda number: costs[number])
    for more in (1, 2, 4, 8, 16):
        assert worth <= (costs[2 + more] - costs[2]) / more * 2 / costs[2] + 1e-9

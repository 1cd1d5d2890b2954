"""Whether a sequence waits for what another is computing."""

from typing import Any

from tokenworks.inference.batcher import Sequence
from tokenworks.inference.messages import Sampling
from tokenworks.inference.pages import PagePool, PageTable
from tokenworks.inference.sharing import LEAST_SAVED, coming

COMMON = list(range(60))


def sequence(pool: PagePool, tokens: list[int], computed: int = 0, **given: Any) -> Sequence:
    return Sequence(
        request_id="",
        prompt_length=len(tokens),
        tokens=tokens,
        sampling=Sampling(max_tokens=4),
        table=PageTable(pool, capacity=8),
        computed=computed,
        **given,
    )


def known(pool: PagePool, tokens: list[int]) -> None:
    table = PageTable(pool, capacity=8)
    table.open(tokens)
    table.computed(tokens, len(tokens))
    table.release()


def coming_tokens(waiting: Sequence, running: list[Sequence]) -> int:
    awaited = coming(waiting, running)
    return awaited.tokens if awaited else 0


def test_who_computes_most_of_it_is_waited_for() -> None:
    pool = PagePool(32)
    less, most = sequence(pool, [*COMMON[:20], 70, 71]), sequence(pool, [*COMMON, 80, 81])

    awaited = coming(sequence(pool, [*COMMON, 90]), [less, most])

    assert awaited is not None
    assert awaited.maker is most


def test_all_that_both_begin_with_is_waited_for() -> None:
    pool = PagePool(32)
    making = [sequence(pool, [*COMMON[:20], 70, 71]), sequence(pool, [*COMMON, 80, 81])]

    assert coming_tokens(sequence(pool, [*COMMON, 90]), making) == 60
    assert coming_tokens(sequence(pool, [*COMMON[:30]]), making) == 29  # never the last token
    assert coming_tokens(sequence(pool, [5] * 60), making) == 0


def test_who_is_no_further_than_the_other_could_begin_is_not_waited_for() -> None:
    pool = PagePool(32)
    known(pool, COMMON[:40])
    waiting = sequence(pool, [*COMMON, 90])

    assert coming_tokens(waiting, [sequence(pool, [*COMMON, 80, 81], computed=39)]) == 0
    assert coming_tokens(waiting, [sequence(pool, [*COMMON, 80, 81], computed=40)]) == 60


def test_only_who_is_computing_its_prompt_is_waited_for() -> None:
    pool = PagePool(32)
    decoding = sequence(pool, [*COMMON, 80], computed=60)
    past = sequence(pool, [*COMMON, *[80] * 20], computed=60)
    scored = sequence(pool, [*COMMON, 80], scored=0)

    assert coming_tokens(sequence(pool, [*COMMON, 90]), [decoding, past, scored]) == 0


def test_a_scored_prompt_shares_nothing_and_its_siblings_wait_for_its_scores() -> None:
    pool = PagePool(32)
    leader = sequence(pool, COMMON, scored=0)
    sibling = sequence(pool, COMMON, leader=leader)

    assert coming_tokens(sequence(pool, COMMON, scored=0), [sequence(pool, [*COMMON, 1])]) == 0
    assert coming_tokens(sibling, [leader]) == len(COMMON) - 1
    leader.scored = None  # it was cancelled
    assert coming_tokens(sibling, []) == 0


def test_little_is_not_waited_for() -> None:
    pool = PagePool(32)
    for length, waits in ((LEAST_SAVED - 1, False), (LEAST_SAVED, True)):
        making = [sequence(pool, [*COMMON[:length], *[70] * 9])]
        coming = coming_tokens(sequence(pool, [*COMMON[:length], *[71] * 9]), making)
        assert coming == (length if waits else 0)

"""Page pool and tables: no page lost, none owned twice by mistake, sharing only of equal tokens."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.pages import PagePool, PageTable, pages_for

POOL_PAGES = 9
MOST_PAGES = 6


def opened(pool: PagePool, tokens: list[int]) -> PageTable:
    """A table with all of these tokens computed."""
    table = PageTable(pool, capacity=MOST_PAGES)
    assert table.open(tokens) is not None
    table.computed(tokens, len(tokens))
    return table


def test_a_known_beginning_is_shared_in_whole_pages() -> None:
    pool = PagePool(8)
    beginning = list(range(2 * PAGE_TOKENS))
    first = opened(pool, [*beginning, 7])
    second = PageTable(pool, capacity=MOST_PAGES)

    cached = second.open([*beginning, 8, 9])

    assert cached == 2 * PAGE_TOKENS
    assert second.pages[:2].tolist() == first.pages[:2].tolist()
    assert second.pages[2] != first.pages[2]
    assert pool.used == 4


def test_the_last_token_is_never_shared() -> None:
    pool = PagePool(8)
    tokens = list(range(2 * PAGE_TOKENS))
    opened(pool, tokens)

    assert PageTable(pool, capacity=MOST_PAGES).open(tokens) == PAGE_TOKENS
    assert PageTable(pool, capacity=MOST_PAGES).open([*tokens, 1]) == 2 * PAGE_TOKENS


def test_a_page_that_is_full_but_not_computed_is_not_shared() -> None:
    pool = PagePool(8)
    tokens = list(range(2 * PAGE_TOKENS + 1))
    table = PageTable(pool, capacity=MOST_PAGES)
    table.open(tokens)
    table.computed(tokens, 2 * PAGE_TOKENS - 1)

    assert PageTable(pool, capacity=MOST_PAGES).open(tokens) == PAGE_TOKENS


def test_equal_tokens_after_another_beginning_are_not_shared() -> None:
    pool = PagePool(8)
    page = list(range(PAGE_TOKENS))
    opened(pool, [*page, *page, 1])

    assert PageTable(pool, capacity=MOST_PAGES).open([9, *page[1:], *page, 1]) == 0


def test_released_pages_stay_known_until_the_longest_unused_is_needed() -> None:
    pool = PagePool(4)
    older, newer = list(range(17)), list(range(100, 117))
    for tokens in (older, newer):
        opened(pool, tokens).release()
    assert pool.used == 0

    taken = PageTable(pool, capacity=MOST_PAGES)
    taken.open([5] * (3 * PAGE_TOKENS))  # two blank pages and one eviction
    taken.release()

    assert PageTable(pool, capacity=MOST_PAGES).open(newer) == PAGE_TOKENS
    assert PageTable(pool, capacity=MOST_PAGES).open(older) == 0


def test_the_end_of_a_released_sequence_is_evicted_before_its_beginning() -> None:
    pool = PagePool(4)
    tokens = list(range(3 * PAGE_TOKENS + 1))
    opened(pool, tokens).release()
    other = PageTable(pool, capacity=MOST_PAGES)
    other.open([5] * (2 * PAGE_TOKENS))
    other.release()

    assert PageTable(pool, capacity=MOST_PAGES).open(tokens) == 2 * PAGE_TOKENS


def test_a_table_that_does_not_fit_takes_nothing() -> None:
    pool = PagePool(4)
    opened(pool, list(range(PAGE_TOKENS + 1))).release()
    table = PageTable(pool, capacity=MOST_PAGES)

    assert table.open(list(range(5 * PAGE_TOKENS))) is None
    assert pool.used == 0
    pool.check_integrity([table])


def test_shared_free_pages_count_once_when_room_is_judged() -> None:
    pool = PagePool(2)
    tokens = list(range(PAGE_TOKENS + 1))
    opened(pool, tokens).release()

    # One known page comes to life again; only one more is free.
    assert PageTable(pool, capacity=MOST_PAGES).open([*tokens, *range(PAGE_TOKENS)]) is None


class PagesMachine(RuleBasedStateMachine):
    """Sequences over two tokens, so that equal beginnings are common."""

    tables = Bundle("tables")

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(POOL_PAGES)
        self.tokens: dict[PageTable, list[int]] = {}
        self.done: dict[PageTable, int] = {}
        self.truth: dict[int, tuple[int, ...]] = {}  # page → all tokens up to its last one

    @rule(
        target=tables,
        pattern=st.lists(st.sampled_from([0, 1]), min_size=1, max_size=3),
        extra=st.lists(st.sampled_from([0, 1]), min_size=1, max_size=PAGE_TOKENS),
    )
    def open(self, pattern: list[int], extra: list[int]) -> PageTable:
        tokens = [token for token in pattern for _ in range(PAGE_TOKENS)] + extra
        table = PageTable(self.pool, capacity=MOST_PAGES)
        free = self.pool.free
        cached = table.open(tokens)
        if cached is None:
            assert free < pages_for(len(tokens))
            assert self.pool.free == free
            return table
        assert cached < len(tokens)
        for number, page in enumerate(table.pages[: cached // PAGE_TOKENS].tolist()):
            assert self.truth[page] == tuple(tokens[: (number + 1) * PAGE_TOKENS])
        self.tokens[table], self.done[table] = tokens, cached
        self._own(table, cached)
        return table

    @rule(table=tables, step=st.integers(1, 40))
    def compute(self, table: PageTable, step: int) -> None:
        if table in self.tokens:
            tokens = self.tokens[table]
            self.done[table] = done = min(len(tokens), self.done[table] + step)
            for number in range(done // PAGE_TOKENS):
                page = int(table.pages[number])
                self.truth[page] = tuple(tokens[: (number + 1) * PAGE_TOKENS])
            table.computed(tokens, done)

    @rule(table=tables, token=st.sampled_from([0, 1]), count=st.integers(1, 20))
    def append(self, table: PageTable, token: int, count: int) -> None:
        for _ in range(count):
            tokens = self.tokens.get(table)
            if tokens is None or pages_for(len(tokens) + 1) > MOST_PAGES:
                return
            before = len(table.pages)
            if not table.grow(len(tokens) + 1):
                assert self.pool.free == 0
                return
            tokens.append(token)
            self._own(table, before * PAGE_TOKENS)

    @rule(table=consumes(tables))
    def release(self, table: PageTable) -> None:
        if self.tokens.pop(table, None):
            table.release()

    @invariant()
    def everything_is_accounted_for(self) -> None:
        self.pool.check_integrity(list(self.tokens))
        for table, tokens in self.tokens.items():
            assert len(table.pages) == pages_for(len(tokens))
            for number in range(self.done[table] // PAGE_TOKENS):
                held = self.truth[int(table.pages[number])]
                assert held == tuple(tokens[: (number + 1) * PAGE_TOKENS])

    def _own(self, table: PageTable, from_token: int) -> None:
        """The pages from this token on are newly taken: nobody else may have them."""
        fresh = set(table.pages[from_token // PAGE_TOKENS :].tolist())
        for other in self.tokens:
            if other is not table:
                assert fresh.isdisjoint(other.pages.tolist())
        for page in fresh:
            self.truth.pop(page, None)


PagesMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_pages_machine = PagesMachine.TestCase

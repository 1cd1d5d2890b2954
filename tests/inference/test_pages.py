"""Page pool and tables: no page lost, none owned twice by mistake, sharing only of equal tokens."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.pages import PagePool, PageTable, pages_for
from tokenworks.inference.prefixes import Edge, Node

POOL_PAGES = 9
MOST_PAGES = 6


def opened(pool: PagePool, tokens: list[int]) -> PageTable:
    """A table with all of these tokens computed."""
    table = PageTable(pool, capacity=MOST_PAGES)
    assert table.open(tokens) is not None
    table.computed(tokens, len(tokens))
    return table


def copies(pool: PagePool) -> list[tuple[int, int, int]]:
    return [tuple(copy) for copy in pool.take_copies()]


def test_whole_pages_of_a_known_beginning_are_shared() -> None:
    pool = PagePool(8)
    beginning = list(range(2 * PAGE_TOKENS))
    first = opened(pool, [*beginning, 7])
    second = PageTable(pool, capacity=MOST_PAGES)

    cached = second.open([*beginning, 8, 9])

    assert cached == 2 * PAGE_TOKENS
    assert second.pages[:2].tolist() == first.pages[:2].tolist()
    assert second.pages[2] != first.pages[2]
    assert pool.used == 4
    assert copies(pool) == []


def test_equal_rows_of_a_page_that_ends_otherwise_are_copied() -> None:
    pool = PagePool(8)
    tokens = list(range(2 * PAGE_TOKENS))
    first = opened(pool, tokens)
    second = PageTable(pool, capacity=MOST_PAGES)

    assert second.open([*tokens[:21], 90, 91]) == 21
    assert copies(pool) == [(first.pages[1], second.pages[1], 5)]
    assert second.pages[1] != first.pages[1]
    pool.check_integrity([first, second])


def test_the_page_with_most_equal_rows_is_copied_from() -> None:
    pool = PagePool(8)
    for ending in ([1, 2, 3, 4, 9], [1, 2, 7, 7, 7], [0] * 5, [1, 2, 3, 9, 9]):
        opened(pool, ending).release()

    assert PageTable(pool, capacity=MOST_PAGES).open([1, 2, 3, 4, 5, 6]) == 4
    assert PageTable(pool, capacity=MOST_PAGES).open([1, 2, 7, 7, 5, 6]) == 4
    assert PageTable(pool, capacity=MOST_PAGES).open([2, 2, 7, 7, 5, 6]) == 0


def test_the_last_token_is_never_shared() -> None:
    pool = PagePool(12)
    tokens = list(range(2 * PAGE_TOKENS))
    opened(pool, tokens)

    assert PageTable(pool, capacity=MOST_PAGES).open(tokens) == 2 * PAGE_TOKENS - 1
    assert PageTable(pool, capacity=MOST_PAGES).open([*tokens, 1]) == 2 * PAGE_TOKENS


def test_rows_that_are_not_computed_are_not_shared() -> None:
    pool = PagePool(12)
    tokens = list(range(2 * PAGE_TOKENS + 1))
    table = PageTable(pool, capacity=MOST_PAGES)
    table.open(tokens)
    assert PageTable(pool, capacity=MOST_PAGES).open(tokens) == 0
    table.computed(tokens, 2 * PAGE_TOKENS - 3)

    assert PageTable(pool, capacity=MOST_PAGES).open(tokens) == 2 * PAGE_TOKENS - 3


def test_an_answer_goes_on_in_the_next_turn() -> None:
    pool = PagePool(8)
    tokens = list(range(20))
    table = opened(pool, tokens)
    for token in range(50, 55):  # the answer; the last one's row is never computed
        tokens.append(token)
        assert table.grow(len(tokens))
        table.computed(tokens, len(tokens) - 1)
    table.release()

    assert PageTable(pool, capacity=MOST_PAGES).open([*tokens, 60, 61]) == len(tokens) - 1


def test_what_goes_further_takes_the_place_of_what_it_began_with() -> None:
    pool = PagePool(8)
    opened(pool, [1, 2, 3]).release()
    opened(pool, [1, 2, 3, 4, 5]).release()
    opened(pool, [1, 2]).release()

    assert [node.edge[1] for node in pool.tree.nodes()] == [(1, 2, 3, 4, 5)]
    assert pool.blank == 7


def test_the_same_page_computed_twice_is_kept_once() -> None:
    pool = PagePool(8)
    tokens = list(range(PAGE_TOKENS + 1))
    tables = [PageTable(pool, capacity=MOST_PAGES) for _ in range(2)]
    for table in tables:
        table.open(tokens)
    assert pool.used == 4
    for table in tables:
        table.computed(tokens, len(tokens))

    assert tables[0].pages[0] == tables[1].pages[0]
    assert pool.used == 3
    pool.check_integrity(tables)


def test_tenants_share_nothing_but_what_both_call_public() -> None:
    pool = PagePool(32)
    tokens = list(range(3 * PAGE_TOKENS))

    def cached(tenant: str, public: int) -> int | None:
        table = PageTable(pool, capacity=MOST_PAGES, tenant=tenant, public=public)
        found = table.open(tokens)
        table.computed(tokens, len(tokens))
        table.release()
        return found

    assert cached("a", 0) == 0
    assert cached("b", 0) == 0
    assert cached("", 0) == 0
    assert cached("a", 0) == len(tokens) - 1
    assert cached("a", 40) == 0
    assert cached("b", 40) == 32  # two whole pages
    assert cached("b", 20) == 16
    assert cached("b", 0) == len(tokens) - 1


def test_a_second_look_finds_what_came_and_what_went() -> None:
    pool = PagePool(5)
    tokens = list(range(4 * PAGE_TOKENS))
    waiting = PageTable(pool, capacity=MOST_PAGES)
    assert waiting.match(tokens).tokens == 0
    first = opened(pool, tokens[:40])
    assert waiting.match(tokens).tokens == 40
    first.release()
    other = PageTable(pool, capacity=MOST_PAGES)
    other.open([90] * (4 * PAGE_TOKENS))  # leaves only the first page
    assert waiting.match(tokens).tokens == PAGE_TOKENS
    other.release()
    opened(pool, tokens)

    assert waiting.match(tokens).tokens == len(tokens) - 1


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


Row = tuple[tuple[int, ...], str, bool]  # tokens up to this one; whose they are; public or not


def test_what_was_of_use_more_often_stays_longer_but_not_for_ever() -> None:
    pool = PagePool(4)
    often, later = [1] * PAGE_TOKENS, [2] * PAGE_TOKENS
    for tokens in (often, often, often, later):
        opened(pool, tokens).release()
    assert pool.blank == 2

    def known(tokens: list[int]) -> bool:
        return PageTable(pool, capacity=MOST_PAGES).match([*tokens, 9]).tokens == PAGE_TOKENS

    for token in range(10, 13):  # two blank pages, then one is given up
        opened(pool, [token] * PAGE_TOKENS).release()
    assert known(often)
    assert not known(later)
    for token in range(13, 40):
        opened(pool, [token] * PAGE_TOKENS).release()
    assert not known(often)


def test_the_end_of_a_longer_beginning_stays_longer() -> None:
    pool = PagePool(1200)
    long, short = list(range(600 * PAGE_TOKENS)), list(range(90_000, 90_000 + 590 * PAGE_TOKENS))
    for tokens in (long, short[:PAGE_TOKENS]):
        table = PageTable(pool, capacity=600)
        table.open(tokens)
        table.computed(tokens, len(tokens))
        table.release()
    taken = [pool.take() for _ in range(pool.blank + 1)]

    assert PageTable(pool, 601).match([*long, 1]).tokens == len(long)
    assert PageTable(pool, 601).match(short).tokens == 0
    assert len(set(taken)) == len(taken)


def test_a_second_look_does_not_walk_what_was_found() -> None:
    pool = PagePool(600)
    tokens = list(range(500 * PAGE_TOKENS))
    table = PageTable(pool, capacity=500)
    table.open(tokens)
    table.computed(tokens, len(tokens) - 40)
    looked = 0
    child = pool.tree.child

    def counted(node: Node, edge: Edge) -> Node | None:
        nonlocal looked
        looked += 1
        return child(node, edge)

    pool.tree.child = counted  # type: ignore[method-assign]
    waiting = PageTable(pool, capacity=500)
    assert waiting.match(tokens).tokens == len(tokens) - 40
    assert looked > 490
    looked = 0
    table.computed(tokens, len(tokens) - 10)
    assert waiting.match(tokens).tokens == len(tokens) - 10

    assert looked <= 4


def test_pages_can_be_kept_for_others() -> None:
    pool = PagePool(4)
    table = PageTable(pool, capacity=MOST_PAGES)

    assert table.open(list(range(40)), spare=2) is None
    assert table.open(list(range(40)), spare=1) == 0


class PagesMachine(RuleBasedStateMachine):
    """Sequences of two tenants over few tokens, so that equal beginnings are common. `memory` is
    what an executor would hold: rows are written and copied there as the pool and tables say.
    """

    tables = Bundle("tables")

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(POOL_PAGES)
        self.tokens: dict[PageTable, list[int]] = {}
        self.done: dict[PageTable, int] = {}
        self.memory: list[list[Row | None]] = [[None] * PAGE_TOKENS for _ in range(POOL_PAGES)]

    @rule(
        target=tables,
        runs=st.lists(
            st.tuples(st.sampled_from([0, 1]), st.sampled_from([1, 3, 13, 16])),
            min_size=1,
            max_size=5,
        ),
        tenant=st.sampled_from("ab"),
        public=st.sampled_from([0, 0, 20, 40]),
        share=st.sampled_from([True, True, True, False]),
        spare=st.sampled_from([0, 0, 2]),
    )
    def open(
        self, runs: list[tuple[int, int]], tenant: str, public: int, share: bool, spare: int
    ) -> PageTable:
        tokens = [token for token, length in runs for _ in range(length)]
        table = PageTable(self.pool, capacity=MOST_PAGES, tenant=tenant, public=public)
        free, expected = self.pool.free, table.match(tokens)
        cached = table.open(tokens, share=share, spare=spare)
        if cached is None:
            assert free < pages_for(len(tokens)) + spare
            assert self.pool.free == free
            assert copies(self.pool) == []
            return table
        rows_were_dropped = expected.node.depth * PAGE_TOKENS
        assert cached in ((expected.tokens, rows_were_dropped) if share else (0,))
        assert cached < len(tokens)
        for source, target, rows in copies(self.pool):
            self.memory[target] = [*self.memory[source][:rows], *[None] * (PAGE_TOKENS - rows)]
        self.tokens[table], self.done[table] = tokens, cached
        self._own(table, cached)
        return table

    @rule(table=tables, step=st.integers(1, 40))
    def compute(self, table: PageTable, step: int) -> None:
        if table in self.tokens:
            tokens = self.tokens[table]
            done = min(len(tokens), self.done[table] + step)
            for place in range(self.done[table], done):
                page, row = int(table.pages[place // PAGE_TOKENS]), place % PAGE_TOKENS
                self.memory[page][row] = (
                    tuple(tokens[: place + 1]),
                    table.tenant,
                    place < table.public // PAGE_TOKENS * PAGE_TOKENS,
                )
            self.done[table] = done
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
        tokens = self.tokens.pop(table, None)
        if tokens is None:
            return
        computed = self.done[table] > 0
        table.release()
        assert len(table.pages) == 0
        if computed:
            again = PageTable(self.pool, MOST_PAGES, table.tenant, table.public)
            found = again.match([*tokens, 9]).tokens
            # Rows that were copied are known where they came from, as long as that is known.
            assert found >= self.done[table] // PAGE_TOKENS * PAGE_TOKENS

    @invariant()
    def everything_is_accounted_for(self) -> None:
        self.pool.check_integrity(list(self.tokens))
        for table, tokens in self.tokens.items():
            assert len(table.pages) == pages_for(len(tokens))
            pages = table.pages.tolist()
            for place in range(self.done[table]):
                row = self.memory[pages[place // PAGE_TOKENS]][place % PAGE_TOKENS]
                assert row is not None
                prefix, tenant, public = row
                assert prefix == tuple(tokens[: place + 1])
                assert public == (place < table.public // PAGE_TOKENS * PAGE_TOKENS)
                assert public or tenant == table.tenant

    def _own(self, table: PageTable, from_token: int) -> None:
        """The pages from this token on are newly taken: nobody else may have them."""
        fresh = set(table.pages[from_token // PAGE_TOKENS :].tolist())
        for other in self.tokens:
            if other is not table:
                assert fresh.isdisjoint(other.pages.tolist())


PagesMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_pages_machine = PagesMachine.TestCase

"""Which sequence uses which KV pages, and what a new one can share of those computed before.

Knows page numbers and tokens; knows nothing about the memory behind a page.

A whole page that is computed is shared. Of a page that only begins as a sequence does, the rows
that are the same are copied into a page of the sequence's own: the pool says what is to be copied.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.prefixes import (
    PUBLIC,
    Edge,
    Node,
    PrefixTree,
    common_beginning,
    owner_of,
)


def pages_for(tokens: int) -> int:
    """How many pages hold this many tokens."""
    return -(-tokens // PAGE_TOKENS)


class Copy(NamedTuple):
    """The first `rows` tokens of page `target` are to be those of page `source`."""

    source: int
    target: int
    rows: int


class PagePool:
    """All pages of one executor: users counted, contents remembered.

    A page without users is free. A free page with known content stays shareable until it is
    needed: blank pages are handed out first, then those that are worth least (`PrefixTree`).
    """

    def __init__(self, pages: int) -> None:
        self.total = pages
        self.tree = PrefixTree()
        self._users = [0] * pages
        self._blank = list(range(pages - 1, -1, -1))
        self._node_of: list[Node | None] = [None] * pages
        self._copies: list[Copy] = []

    @property
    def free(self) -> int:
        return len(self._blank) + self.tree.idle

    @property
    def used(self) -> int:
        return self.total - self.free

    @property
    def blank(self) -> int:
        """Free pages of which nothing is known."""
        return len(self._blank)

    def take(self) -> int:
        """A free page with one user. Its former content is forgotten."""
        if self._blank:
            page = self._blank.pop()
        else:
            page = self.tree.give_up().page
            self._node_of[page] = None
        self._users[page] = 1
        return page

    def share(self, node: Node) -> None:
        """One more user of a known page; those before it must be in use."""
        if node.idle:
            self.tree.use(node)
        self._users[node.page] += 1

    def release(self, page: int) -> None:
        """One user less."""
        assert self._users[page] > 0, f"page {page} has no user"
        self._users[page] -= 1
        if self._users[page] == 0:
            node = self._node_of[page]
            if node is None:
                self._blank.append(page)
            else:
                self.tree.rest(node)

    def remember(self, page: int, parent: Node, edge: Edge) -> Node:
        """`page`, which is in use, holds `edge` after `parent`; the node of whatever page does.

        If another page holds it, or more after the same beginning, that one stays the one to
        share. Idle pages that hold only a beginning of it are forgotten.
        """
        known, rows = self.tree.nearest(parent, edge)
        if known is not None and rows == len(edge[1]):
            return known
        for node in list(self.tree.shorter(parent, edge)):
            self.forget(node)
        node = self._node_of[page] = self.tree.add(parent, edge, page)
        return node

    def restore(self, parent: Node, edge: Edge) -> Node | None:
        """A page for what was computed before, in no use; there must be a blank one. None if a page
        holds it already."""
        page = self._blank.pop()
        self._users[page] = 1
        node = self.remember(page, parent, edge)
        self.release(page)
        return node if node.page == page else None

    def forget(self, node: Node) -> None:
        """What a page without any after it holds is not to be shared any more."""
        self.tree.remove(node)
        self._node_of[node.page] = None
        if self._users[node.page] == 0:
            self._blank.append(node.page)

    def copy(self, source: Node, target: int, rows: int) -> None:
        """Have rows copied before the next forward."""
        self._copies.append(Copy(source.page, target, rows))

    def take_copies(self) -> list[Copy]:
        """What is to be copied, in this order, before any page is written."""
        copies, self._copies = self._copies, []
        return copies

    def check_integrity(self, tables: Sequence["PageTable"]) -> None:
        """Assert that exactly these tables use the pages and that no page is lost or twice free."""
        users = [0] * self.total
        for table in tables:
            for page in table.pages:
                users[page] += 1
        assert users == self._users, "a page's users are miscounted"
        nodes = list(self.tree.nodes())
        free = sorted([*self._blank, *(node.page for node in nodes if node.idle)])
        assert free == [page for page, count in enumerate(users) if count == 0], "a page is lost"
        assert all(self._node_of[node.page] is node for node in nodes)
        assert sum(node is not None for node in self._node_of) == len(nodes), "a page has two nodes"
        self.tree.check_integrity()


class Match(NamedTuple):
    """What of a beginning is known: all up to `node`, then `rows` tokens of `partial`."""

    node: Node
    partial: Node | None
    rows: int

    @property
    def tokens(self) -> int:
        return self.node.depth * PAGE_TOKENS + self.rows


@dataclass(slots=True, eq=False)
class PageTable:
    """The pages of one sequence, in the order of its tokens, which only grow.

    What it computes is shared with sequences of the same tenant; the whole pages among its first
    `public` tokens with all that say so of the same beginning.
    """

    pool: PagePool
    capacity: int  # most pages the sequence can come to need
    tenant: str = ""
    public: int = 0
    _pages: NDArray[np.int32] = field(init=False)
    _length: int = 0
    _node: Node = field(init=False)  # of the last page that is computed, whole and so known
    _tail: Node | None = None  # of the page after it, as far as it was computed once
    _known: Node = field(init=False)  # as far as the beginning was found when it was looked up
    _computed: int = 0
    _tokens: Sequence[int] = ()
    _common: dict["PageTable", int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pages = np.zeros(self.capacity, np.int32)
        self._node = self._known = self.pool.tree.root

    @property
    def pages(self) -> NDArray[np.int32]:
        """int32 [pages], a view that stays valid until `release`."""
        return self._pages[: self._length]

    def match(self, tokens: Sequence[int]) -> Match:
        """What is known of this beginning, the last token left out: its row must be computed to
        know what follows. Looking again costs only what has changed since.
        """
        node = self._known
        while not node.attached:
            assert node.parent is not None
            node = node.parent
        tree, last = self.pool.tree, len(tokens) - 1
        while (node.depth + 1) * PAGE_TOKENS <= last:
            child = tree.child(node, self._edge(tokens, node.depth, last))
            if child is None:
                break
            node = child
        self._known = node
        return Match(node, *tree.nearest(node, self._edge(tokens, node.depth, last)))

    def common(self, tokens: Sequence[int], other: "PageTable", other_tokens: Sequence[int]) -> int:
        """How many tokens of the beginning the two could share. Found once for each other."""
        known = self._common.get(other)
        if known is None:
            limit = min(len(tokens) - 1, len(other_tokens))
            if (self.tenant, self.public) != (other.tenant, other.public):
                public = min(self.public, other.public)
                limit = min(limit, public // PAGE_TOKENS * PAGE_TOKENS)
            known = self._common[other] = common_beginning(tokens, other_tokens, limit)
        return known

    def open(self, tokens: Sequence[int], *, share: bool = True, spare: int = 0) -> int | None:
        """Take pages for all of `tokens`, sharing what is known unless every row is to be computed.

        Returns how many tokens are computed already, or None, taking nothing, if fewer than the
        pages needed and `spare` ones are free.
        """
        assert self._length == 0, "the table is open already"
        self._common.clear()
        root = self.pool.tree.root
        match = self.match(tokens) if share else Match(root, None, 0)
        if not self._fits(tokens, match, spare):
            # The page to be copied from is one that must stay.
            match = Match(match.node, None, 0)
            if not self._fits(tokens, match, spare):
                return None
        for node in _path(match.node):
            self._use(node)
            self._append(node.page)
        self._node = match.node
        self._computed = self._length * PAGE_TOKENS
        if match.partial is not None:
            self._use(match.partial)
        for _ in range(pages_for(len(tokens)) - self._length):
            self._append(self.pool.take())
        if match.partial is not None:
            self.pool.copy(match.partial, int(self._pages[match.node.depth]), match.rows)
            self.pool.release(match.partial.page)
        return match.tokens

    def grow(self, tokens: int) -> bool:
        """Take the page that token number `tokens` needs; False if none is free."""
        if pages_for(tokens) <= self._length:
            return True
        if self.pool.free == 0:
            return False
        self._append(self.pool.take())
        return True

    def room(self, tokens: int, further: int, *, spare: int = 0) -> int:
        """For how many of `further` tokens after the first `tokens` there are pages, if free ones
        but `spare` are taken for them."""
        while pages_for(tokens + further) > self._length and self.pool.free > spare:
            self._append(self.pool.take())
        return min(further, self._length * PAGE_TOKENS - tokens)

    def computed(self, tokens: Sequence[int], count: int) -> None:
        """The KV of the first `count` of `tokens` is in place: it becomes shareable."""
        self._tokens, self._computed = tokens, count
        while (self._node.depth + 1) * PAGE_TOKENS <= count:
            self._forget_tail()
            number = self._node.depth
            page = int(self._pages[number])
            node = self.pool.remember(page, self._node, self._edge(tokens, number, count))
            if node.page != page:  # somebody has computed the same meanwhile
                self.pool.share(node)
                self.pool.release(page)
                self._pages[number] = node.page
            self._node = node
        if self._tail is None:
            self._remember_tail()

    def release(self) -> None:
        """Give all pages back; what is computed stays known, the last page's rows too."""
        self._forget_tail()
        self._remember_tail()
        for page in reversed(self.pages.tolist()):
            self.pool.release(page)
        self._length = self._computed = 0
        self._node, self._tail = self.pool.tree.root, None

    def _edge(self, tokens: Sequence[int], number: int, end: int) -> Edge:
        """Page `number` as far as it lies before token `end`."""
        start = number * PAGE_TOKENS
        public = start + PAGE_TOKENS <= self.public
        owner = PUBLIC if public else owner_of(self.tenant)
        return owner, tuple(tokens[start : min(start + PAGE_TOKENS, end)])

    def _fits(self, tokens: Sequence[int], match: Match, spare: int) -> bool:
        free = self.pool.free - spare - (pages_for(len(tokens)) - match.node.depth)
        free -= match.partial is not None and match.partial.idle
        node = match.node
        while free >= 0 and node.idle and node.parent is not None:  # those before are used first
            free -= 1
            node = node.parent
        return free >= 0

    def _use(self, node: Node) -> None:
        node.hits += 1
        self.pool.share(node)

    def _remember_tail(self) -> None:
        number = self._node.depth
        if self._computed > number * PAGE_TOKENS:
            page = int(self._pages[number])
            edge = self._edge(self._tokens, number, self._computed)
            node = self.pool.remember(page, self._node, edge)
            self._tail = node if node.page == page else None

    def _forget_tail(self) -> None:
        if self._tail is not None:
            self.pool.forget(self._tail)
            self._tail = None

    def _append(self, page: int) -> None:
        self._pages[self._length] = page
        self._length += 1


def _path(node: Node) -> list[Node]:
    """All nodes up to this one, the first page's first."""
    path = []
    while node.parent is not None:
        path.append(node)
        node = node.parent
    return path[::-1]

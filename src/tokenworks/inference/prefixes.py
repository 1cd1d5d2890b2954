"""Which beginnings are computed, and in which pages: a radix tree, a page of tokens an edge.

Knows tokens, owners and page numbers; knows nothing about the memory behind a page or who uses it.

Tokens are compared themselves, never hashes of them. A node's edge is a whole page, or fewer
tokens where a sequence ended: then nothing comes after it. Edges that begin alike lie beside each
other, so the one that has most in common with some tokens is a neighbour of where these would be.
"""

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import log2
from operator import attrgetter

from tokenworks.inference.executors.base import PAGE_TOKENS

PUBLIC = "*"
"""The owner of what everybody may share; any other owner's name begins otherwise."""

Edge = tuple[str, tuple[int, ...]]
"""Who may share a page, and its tokens."""

_DOUBLE_COST = 256
"""A page with this many before it takes about twice as long to compute as the first: then
attention takes as long as the products (about 4096 tokens in models of 0.6 to 1 B parameters)."""

_edge_of = attrgetter("edge")


def owner_of(tenant: str) -> str:
    """The name of a tenant among edges."""
    return f"={tenant}"


@dataclass(slots=True, eq=False)
class Node:
    """A page's tokens after all those of the nodes above.

    `depth`: pages up to and with this one. `idle`: no sequence uses the page. `worth`: what it was
    worth to keep when its last user left, which was the `left`-th time that happened to a page.
    `attached`: it is in the tree.
    """

    edge: Edge
    page: int
    parent: "Node | None"
    depth: int
    children: list["Node"] = field(default_factory=list)  # sorted by edge
    idle: bool = False
    hits: int = 0
    worth: float = 0.0
    left: int = 0
    attached: bool = True

    @property
    def value(self) -> float:
        """It grows with the times it was of use and with what computing it again would cost, but
        slowly: what was of much use once must not stay for ever."""
        return 1.0 + log2(1.0 + self.hits) + log2(1.0 + self.depth / _DOUBLE_COST)


class PrefixTree:
    """All beginnings that are known.

    What no sequence uses is given up leaf by leaf, the least worth first: GreedyDual-Size with
    frequency (Cherkasova 1998). A page's worth is its value above that of the last page given up,
    so that what was of use once fades in time.
    """

    def __init__(self) -> None:
        self.root = Node(("", ()), -1, None, 0)
        self.idle = 0
        self.size = 0
        self.changes = 0  # grows whenever a node comes or goes
        self._given_up = 0.0  # the worth of the last node that was
        self._leaves: list[tuple[float, int, Node]] = []  # a heap; some are leaves no more
        self._numbers = count()

    def child(self, node: Node, edge: Edge) -> Node | None:
        """The node that goes on from `node` with exactly this edge."""
        place = bisect_left(node.children, edge, key=_edge_of)
        if place < len(node.children) and node.children[place].edge == edge:
            return node.children[place]
        return None

    def nearest(self, node: Node, edge: Edge) -> tuple[Node | None, int]:
        """The node after `node` that has most tokens in common with `edge`, and how many."""
        place = bisect_left(node.children, edge, key=_edge_of)
        best, most = None, 0
        for other in node.children[max(0, place - 1) : place + 1]:
            if other.edge[0] == edge[0]:
                length = min(len(other.edge[1]), len(edge[1]))
                rows = common_beginning(other.edge[1], edge[1], length)
                if rows > most:
                    best, most = other, rows
        return best, most

    def shorter(self, node: Node, edge: Edge) -> Iterator[Node]:
        """Idle nodes after `node` that hold a beginning of `edge`, the longest first."""
        for place in range(bisect_left(node.children, edge, key=_edge_of) - 1, -1, -1):
            other = node.children[place]
            owner, tokens = other.edge
            if not other.idle or owner != edge[0] or tokens != edge[1][: len(tokens)]:
                return
            yield other

    def add(self, parent: Node, edge: Edge, page: int) -> Node:
        """A node in use. Its edge must be new and its parent's a whole page."""
        node = Node(edge, page, parent, parent.depth + 1)
        parent.children.insert(bisect_left(parent.children, edge, key=_edge_of), node)
        self.size += 1
        self.changes += 1
        return node

    def remove(self, node: Node) -> None:
        """Forget a node that has none after it."""
        parent = node.parent
        assert parent is not None, "the root is removed"
        assert not node.children, "a node between others is removed"
        del parent.children[bisect_left(parent.children, node.edge, key=_edge_of)]
        node.attached = False
        self.size -= 1
        self.changes += 1
        self.idle -= node.idle
        self._offer(parent)

    def use(self, node: Node) -> None:
        """A first sequence uses the node's page."""
        node.idle = False
        self.idle -= 1

    def rest(self, node: Node) -> None:
        """The last sequence that used the node's page has left. Whose parent rests, rests."""
        node.idle = True
        self.idle += 1
        node.worth, node.left = self._given_up + node.value, next(self._numbers)
        self._offer(node)

    def give_up(self) -> Node:
        """Remove the idle leaf that is worth least. There must be an idle node."""
        while True:
            worth, left, node = heapq.heappop(self._leaves)
            if node.attached and node.idle and not node.children and left == node.left:
                self._given_up = worth
                self.remove(node)
                return node

    def nodes(self) -> Iterator[Node]:
        """All of them, each after its parent."""
        found = list(self.root.children)
        while found:
            node = found.pop()
            yield node
            found += node.children

    def _offer(self, node: Node) -> None:
        if node.idle and not node.children:
            heapq.heappush(self._leaves, (node.worth, node.left, node))
            if len(self._leaves) > 2 * self.size + 64:
                idle = [node for node in self.nodes() if node.idle and not node.children]
                self._leaves = [(node.worth, node.left, node) for node in idle]
                heapq.heapify(self._leaves)

    def check_integrity(self) -> None:
        """Assert that the tree is one."""
        nodes = list(self.nodes())
        assert len(nodes) == self.size, "nodes are miscounted"
        assert sum(node.idle for node in nodes) == self.idle, "idle nodes are miscounted"
        offered = {node for _, left, node in self._leaves if left == node.left}
        for node in [self.root, *nodes]:
            edges = [child.edge for child in node.children]
            assert edges == sorted(set(edges)), "edges are out of order"
            assert node.attached
            assert not node.children or len(node.edge[1]) in (0, PAGE_TOKENS)
            for child in node.children:
                assert child.parent is node
                assert child.depth == node.depth + 1
                assert not node.idle or child.idle, "a page is idle but not the one after it"
                assert node.edge[0] in ("", PUBLIC, child.edge[0]), "owners mix"
            assert not node.idle or node.children or node in offered, "an idle leaf is lost"


def common_beginning(one: Sequence[int], other: Sequence[int], limit: int) -> int:
    """How many of the first `limit` tokens, which both have, are the same."""
    start, step = 0, 64  # most differ early
    while start < limit:
        end = min(limit, start + step)
        if one[start:end] != other[start:end]:
            pairs = zip(one[start:end], other[start:end], strict=True)
            return start + next(n for n, (ours, theirs) in enumerate(pairs) if ours != theirs)
        start, step = end, 4096
    return limit

"""Which sequence owns which KV pages, and which full pages can be shared by a common beginning.

Knows page numbers and tokens; knows nothing about the memory behind a page.

A page can be shared once it is full and computed. Its content is named by a number that stands
for exactly one beginning: (number of the page before, these 16 tokens) → number. The tokens are
part of the key and numbers are never used twice, so sharing rests on equality and not on hashes.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.executors.base import PAGE_TOKENS

BEGINNING = 0
"""The content before a sequence's first page."""

_Key = tuple[int, tuple[int, ...]]


def pages_for(tokens: int) -> int:
    """How many pages hold this many tokens."""
    return -(-tokens // PAGE_TOKENS)


class PagePool:
    """All pages of one executor: users counted, contents remembered.

    A page without users is free. A free page with known content stays shareable until it is
    needed: blank pages are handed out first, then the one whose last user left longest ago.
    """

    def __init__(self, pages: int) -> None:
        self.total = pages
        self._users = [0] * pages
        self._blank = list(range(pages - 1, -1, -1))
        self._known_free: OrderedDict[int, None] = OrderedDict()  # longest unused first
        self._page_of: dict[int, int] = {}  # content → page
        self._content_of: dict[_Key, int] = {}
        self._key_of: dict[int, tuple[_Key, int]] = {}  # page → its key and content
        self._next_content = BEGINNING + 1

    @property
    def free(self) -> int:
        return len(self._blank) + len(self._known_free)

    @property
    def used(self) -> int:
        return self.total - self.free

    def take(self) -> int:
        """A free page with one user. Its former content is forgotten."""
        page = self._blank.pop() if self._blank else self._evict()
        self._users[page] = 1
        return page

    def share(self, page: int) -> None:
        """One more user of a page whose content is known."""
        if self._users[page] == 0:
            del self._known_free[page]
        self._users[page] += 1

    def release(self, page: int) -> None:
        """One user less."""
        assert self._users[page] > 0, f"page {page} has no user"
        self._users[page] -= 1
        if self._users[page] == 0:
            if page in self._key_of:
                self._known_free[page] = None
            else:
                self._blank.append(page)

    def find(self, before: int, tokens: tuple[int, ...]) -> tuple[int, int] | None:
        """The (content, page) that continues the content `before` with these tokens."""
        content = self._content_of.get((before, tokens))
        return None if content is None else (content, self._page_of[content])

    def remember(self, page: int, before: int, tokens: tuple[int, ...]) -> int:
        """`page` now holds these tokens after the content `before`; returns its content.

        If another page holds the same, that one stays the one to share.
        """
        key = (before, tokens)
        if (known := self._content_of.get(key)) is not None:
            return known
        content, self._next_content = self._next_content, self._next_content + 1
        self._content_of[key] = content
        self._page_of[content] = page
        self._key_of[page] = (key, content)
        return content

    def is_free(self, page: int) -> bool:
        return self._users[page] == 0

    def check_integrity(self, tables: Sequence["PageTable"]) -> None:
        """Assert that exactly these tables use the pages and that no page is lost or twice free."""
        users = [0] * self.total
        for table in tables:
            for page in table.pages:
                users[page] += 1
        assert users == self._users, "a page's users are miscounted"
        free = sorted([*self._blank, *self._known_free])
        assert free == [page for page, count in enumerate(users) if count == 0], "a page is lost"
        assert all(page in self._key_of for page in self._known_free)
        assert not any(page in self._key_of for page in self._blank)
        assert {content: page for page, (_, content) in self._key_of.items()} == self._page_of
        assert {key: content for key, content in self._key_of.values()} == self._content_of

    def _evict(self) -> int:
        page, _ = self._known_free.popitem(last=False)
        key, content = self._key_of.pop(page)
        del self._content_of[key], self._page_of[content]
        return page


@dataclass(slots=True, eq=False)
class PageTable:
    """The pages of one sequence, in the order of its tokens."""

    pool: PagePool
    capacity: int  # most pages the sequence can come to need
    _pages: NDArray[np.int32] = field(init=False)
    _length: int = 0
    _remembered: int = 0  # leading pages whose content is known
    _content: int = BEGINNING  # of the last of them

    def __post_init__(self) -> None:
        self._pages = np.zeros(self.capacity, np.int32)

    @property
    def pages(self) -> NDArray[np.int32]:
        """int32 [pages], a view that stays valid until `release`."""
        return self._pages[: self._length]

    def shareable(self, tokens: Sequence[int]) -> list[tuple[int, int]]:
        """The known (content, page) pairs that hold this beginning, whole pages only.

        The last token is never covered: its row must be computed to know what follows.
        """
        found: list[tuple[int, int]] = []
        before = BEGINNING
        for start in range(0, len(tokens) - PAGE_TOKENS, PAGE_TOKENS):
            hit = self.pool.find(before, tuple(tokens[start : start + PAGE_TOKENS]))
            if hit is None:
                break
            found.append(hit)
            before = hit[0]
        return found

    def open(self, tokens: Sequence[int], *, share: bool = True) -> int | None:
        """Take pages for all of `tokens`, sharing known ones unless every row is to be computed.

        Returns how many tokens are computed already, or None, taking nothing, if too few pages
        are free.
        """
        assert self._length == 0, "the table is open already"
        shared = self.shareable(tokens) if share else []
        needed = pages_for(len(tokens)) - len(shared)
        if needed > self.pool.free - sum(self.pool.is_free(page) for _, page in shared):
            return None
        for content, page in shared:
            self.pool.share(page)
            self._append(page)
            self._content = content
        self._remembered = len(shared)
        for _ in range(needed):
            self._append(self.pool.take())
        return len(shared) * PAGE_TOKENS

    def grow(self, tokens: int) -> bool:
        """Take the page that token number `tokens` needs; False if none is free."""
        if pages_for(tokens) <= self._length:
            return True
        if self.pool.free == 0:
            return False
        self._append(self.pool.take())
        return True

    def room(self, tokens: int, further: int) -> int:
        """For how many of `further` tokens after the first `tokens` there are pages, if free ones
        are taken for them."""
        while pages_for(tokens + further) > self._length and self.pool.free:
            self._append(self.pool.take())
        return min(further, self._length * PAGE_TOKENS - tokens)

    def computed(self, tokens: Sequence[int], count: int) -> None:
        """The KV of the first `count` of `tokens` is in place: full pages become shareable."""
        while (self._remembered + 1) * PAGE_TOKENS <= count:
            start = self._remembered * PAGE_TOKENS
            content = tuple(tokens[start : start + PAGE_TOKENS])
            page = int(self._pages[self._remembered])
            self._content = self.pool.remember(page, self._content, content)
            self._remembered += 1

    def release(self) -> None:
        """Give all pages back, the last first, so that beginnings stay known the longest."""
        for page in reversed(self.pages.tolist()):
            self.pool.release(page)
        self._length = self._remembered = 0
        self._content = BEGINNING

    def _append(self, page: int) -> None:
        self._pages[self._length] = page
        self._length += 1

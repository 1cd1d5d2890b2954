"""Computed beginnings on disk: pages that the next worker can go on with, one file a page.

Knows what a record is and which are worth their space; knows nothing of requests or models.

A record names the one before it, so a page is only ever taken up after the very beginning that it
was computed for. Its checksum is keyed by all that its bits depend on: what is damaged, or was
computed by something else, is not taken up but removed, and computed again.
"""

import logging
import os
import re
import shutil
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Protocol

import msgspec

from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.pages import PagePool
from tokenworks.inference.prefixes import PUBLIC, Node
from tokenworks.store.files import atomic_writer, try_lock

logger = logging.getLogger(__name__)

_SUFFIX = ".page"
_LOCK = "lock"
_FOLDER = re.compile("[0-9a-f]{24}")
_MAGIC = b"tokenworks page 1\n"
_CHECKSUM_BYTES = 32
_MOST_HEADER_BYTES = 4096


class PageContents(Protocol):
    """The part of an executor that is needed here."""

    @property
    def page_bytes(self) -> int: ...
    def read_page(self, page: int) -> bytes: ...
    def write_page(self, page: int, content: bytes | memoryview) -> None: ...


class _Header(msgspec.Struct, frozen=True, array_like=True):
    """`before` is the name of the record of the page before; empty for a first page."""

    before: str
    owner: str
    tokens: Annotated[tuple[int, ...], msgspec.Meta(min_length=1, max_length=PAGE_TOKENS)]
    depth: int


@dataclass(slots=True)
class Spill:
    """The records in one folder, which is this process's alone. No fault of a disk gets out."""

    folder: Path
    key: bytes
    most_bytes: int
    lock: int  # its descriptor
    _names: dict[Node, str] = field(default_factory=dict)  # of what has a record
    _wanted: list[Node] = field(default_factory=list)  # that has none yet, the next one last
    _changes: int = -1  # of the tree, when that was last looked at

    @classmethod
    def open(cls, root: Path, fingerprint: str, most_bytes: int) -> "Spill | None":
        """The records in a folder of their own below `root`, which is made if it is not there.

        `fingerprint` says all that a page's bits depend on. None, with a warning, if the folder
        cannot be used or another process uses it.
        """
        key = blake2b(fingerprint.encode(), digest_size=32).digest()
        folder = root / key.hex()[:24]
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            lock = try_lock(folder / _LOCK)
            if lock is None:
                logger.warning("prefix cache %s is in use: going without", folder)
                return None
            others = _make_room(root, folder, most_bytes)
            os.utime(folder)
        except OSError as problem:
            logger.warning("prefix cache %s cannot be used: %s", folder, problem)
            return None
        return cls(folder, key, max(0, most_bytes - others), lock)

    def close(self) -> None:
        os.close(self.lock)

    def load(self, pool: PagePool, contents: PageContents) -> int:
        """Take up what is whole, while pages are blank, and remove the rest; how many pages."""
        found: list[tuple[int, str, _Header]] = []
        for path in _files(self.folder):
            if path.suffix == _SUFFIX and (header := self._read_header(path)):
                found.append((header.depth, path.stem, header))
            elif path.name != _LOCK:
                _remove(path)
        nodes = {"": pool.tree.root}
        for _, name, header in sorted(found, key=lambda each: each[0]):
            node, parent = None, nodes.get(header.before)
            if parent is not None and _goes_on(parent, header) and pool.blank:
                node = self._take_up(pool, contents, parent, name, header)
            if node is None:
                _remove(self._path(name))
            else:
                nodes[name] = node
                self._names[node] = name
        return len(self._names)

    def save_one(self, pool: PagePool, contents: PageContents) -> bool:
        """Write one record that is missing, or remove what is to go; False if all is done."""
        if pool.tree.changes != self._changes:
            self._changes = pool.tree.changes
            self._look_around(pool, contents)
        while self._wanted:
            node = self._wanted.pop()
            before = self._name_before(node)
            if before is not None:
                return self._save(node, before, contents.read_page(node.page))
        return False

    def _take_up(
        self, pool: PagePool, contents: PageContents, parent: Node, name: str, header: _Header
    ) -> Node | None:
        """None for a record that is not whole, or that says no more than another."""
        content = self._read_page(name, header, contents.page_bytes)
        if content is None:
            return None
        node = pool.restore(parent, (header.owner, header.tokens))
        if node is not None:
            contents.write_page(node.page, content)
        return node

    def _look_around(self, pool: PagePool, contents: PageContents) -> None:
        """Decide what has a record: those worth most, and all that they come after."""
        nodes = list(pool.tree.nodes())
        worth = {node: node.worth for node in nodes}
        for node in reversed(nodes):  # each before its parent
            if node.parent is not None and node.parent in worth:
                worth[node.parent] = max(worth[node.parent], worth[node])
        nodes.sort(key=lambda node: (-worth[node], node.depth))
        room = self.most_bytes // (contents.page_bytes + _MOST_HEADER_BYTES)
        chosen = set(nodes[:room])
        for node in [node for node in self._names if node not in chosen]:
            _remove(self._path(self._names.pop(node)))
        self._wanted = [node for node in nodes[:room] if node not in self._names][::-1]

    def _name_before(self, node: Node) -> str | None:
        """None if the page before has no record, so that this one would be of no use."""
        assert node.parent is not None
        return "" if node.parent.parent is None else self._names.get(node.parent)

    def _save(self, node: Node, before: str, content: bytes) -> bool:
        owner, tokens = node.edge
        header = _Header(before, owner, tokens, node.depth)
        name = self._name(header)
        begin = _beginning(header)
        try:
            with atomic_writer(self._path(name), sync=False) as file:
                file.write(begin)
                file.write(content)
                file.write(self._checksum(begin, content))
        except OSError as problem:
            logger.warning("prefix cache %s cannot be written: %s", self.folder, problem)
            self._wanted.clear()
            return False
        self._names[node] = name
        return True

    def _read_header(self, path: Path) -> _Header | None:
        """None for a file that is none of ours. What it says is not checked yet."""
        try:
            with path.open("rb") as file:
                begin = file.read(len(_MAGIC) + 4)
                length = int.from_bytes(begin[len(_MAGIC) :], "big")
                if not begin.startswith(_MAGIC) or length > _MOST_HEADER_BYTES:
                    return None
                header = msgspec.msgpack.decode(file.read(length), type=_Header)
        except (OSError, ValueError):  # msgspec's errors are ValueErrors
            return None
        return header if path.stem == self._name(header) else None

    def _read_page(self, name: str, header: _Header, page_bytes: int) -> memoryview | None:
        """What a record holds if it is whole."""
        begin = _beginning(header)
        try:
            data = self._path(name).read_bytes()
        except OSError:
            return None
        content = memoryview(data)[len(begin) : len(begin) + page_bytes]
        if not data.startswith(begin) or len(content) != page_bytes:
            return None
        checksum = self._checksum(begin, content)
        return content if data[len(begin) + page_bytes :] == checksum else None

    def _checksum(self, begin: bytes, content: bytes | memoryview) -> bytes:
        digest = blake2b(begin, digest_size=_CHECKSUM_BYTES, key=self.key)
        digest.update(content)
        return digest.digest()

    def _name(self, header: _Header) -> str:
        return blake2b(msgspec.msgpack.encode(header), digest_size=16, key=self.key).hexdigest()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"


def _beginning(header: _Header) -> bytes:
    """What a record has before the page."""
    encoded = msgspec.msgpack.encode(header)
    return _MAGIC + len(encoded).to_bytes(4, "big") + encoded


def _goes_on(parent: Node, header: _Header) -> bool:
    """Whether the record can come after this node."""
    owner, tokens = parent.edge
    whole = parent.parent is None or len(tokens) == PAGE_TOKENS
    known = owner in ("", PUBLIC, header.owner)
    return whole and known and header.depth == parent.depth + 1


def _make_room(root: Path, own: Path, most_bytes: int) -> int:
    """Remove what other models or ways to run have left, the longest unused first, until all is
    within bounds. Returns the bytes of those that stay."""
    others = [path for path in root.iterdir() if _FOLDER.fullmatch(path.name) and path != own]
    sizes = {path: sum(file.stat().st_size for file in _files(path)) for path in others}
    left = sum(sizes.values())
    used = left + sum(file.stat().st_size for file in _files(own))
    for path in sorted(others, key=lambda path: path.stat().st_mtime):
        if used <= most_bytes and sizes[path]:
            continue
        if not (path / _LOCK).is_file() or (lock := try_lock(path / _LOCK)) is None:
            continue  # nothing of ours, or in use
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
        used -= sizes[path]
        left -= sizes[path]
    return left


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as problem:
        logger.warning("%s cannot be removed: %s", path, problem)

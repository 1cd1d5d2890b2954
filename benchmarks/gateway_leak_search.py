"""Looks for private items wherever they may not be, once conversations are over."""

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway_canaries import Canary, Net
from gateway_conversations import Conversation

from tokenworks.gateway.labels import Label
from tokenworks.gateway.privacy.placeholders import PLACEHOLDER

CLEARANCES: Final = {
    "near": Label.SECRET,
    "site": Label.PRIVATE,
    "cloud": Label.INTERNAL,
    "claude": Label.INTERNAL,
    "open": Label.PUBLIC,
}


@dataclass
class Found:
    leaks: list[dict[str, str]] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    restored: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def check(
    block: str,
    folder: Path,
    made: Sequence[Conversation],
    keys: Collection[str],
    pages: bytes,
    found: Found,
) -> None:
    """`keys` are those of callers, which no backend may see; `pages` what the gateway told."""
    records = {
        name: [json.loads(line) for line in (folder / f"{name}.record").read_text().splitlines()]
        for name in CLEARANCES
    }
    origin = _origins(made, records)
    net = Net(origin)

    def add(ones: Iterable[Canary], seen_by: str) -> None:
        found.leaks += [_leak(block, one, origin[one], seen_by) for one in ones]

    for name, lines in records.items():
        seen = _seen(net, name, lines, found)
        add((one for one in seen if one.label > CLEARANCES[name]), name)
        if any(key in line["head"] + line["body"] for line in lines for key in keys):
            found.leaks.append({"place": "the caller's key", "seen_by": name})
    # A request's id is what people find its record by.
    inside = {item.canary for one in made for item in one.all if item.place == "request_id"}
    for where, data in {"metrics or administration": pages, **_kept(folder)}.items():
        add(net.caught(data) - inside, where)


def _origins(
    made: Sequence[Conversation], records: dict[str, list[dict[str, str]]]
) -> dict[Canary, tuple[str, str]]:
    """Where each item was first: a place of a conversation, or a backend's answer."""
    origin = {
        item.canary: (item.place, f"{one.api} {one.number}") for one in made for item in one.all
    }
    for name, lines in records.items():
        for own in (line["own"] for line in lines if line["own"]):
            origin[Canary("phone", own, own, Label.PRIVATE)] = ("answer", name)
    return origin


def _seen(net: Net, name: str, lines: Sequence[dict[str, str]], found: Found) -> set[Canary]:
    """All that a backend was told; and how much that was."""
    seen: set[Canary] = set()
    for line in lines:
        seen |= net.caught(line["head"].encode()) | net.caught(line["body"].encode())
    found.received[f"{name}: requests"] += len(lines)
    found.received[f"{name}: masked"] += sum(
        bool(PLACEHOLDER.search(line["body"])) for line in lines
    )
    found.received[f"{name}: items"] += len(seen)
    return seen


def _kept(folder: Path) -> dict[str, bytes]:
    """The log, the ledger and all else in the state folder, but for responses: those are texts that
    clients ask to be kept."""
    files = [path for path in (folder / "home").rglob("*") if path.is_file()]
    found = {one.name: one.read_bytes() for one in files if ".db" not in one.name}
    found["log"] = (folder / "gateway.log").read_bytes()
    for place in (one for one in files if one.suffix == ".db"):
        with sqlite3.connect(place) as database:
            tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'responses'"
            for (table,) in database.execute(tables).fetchall():
                rows = database.execute(f'SELECT * FROM "{table}"').fetchall()
                found[f"table {table}"] = "\n".join(map(repr, rows)).encode()
    return found


def _leak(block: str, one: Canary, origin: tuple[str, str], seen_by: str) -> dict[str, str]:
    return {
        "block": block,
        "kind": one.kind,
        "label": one.label.word,
        "place": origin[0],
        "conversation": origin[1],
        "seen_by": seen_by,
        "item": one.text,
    }

"""Kept responses as rows: apart by owner, bounded in size and age, and gone once deleted."""

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenworks.accounts.keys import Key
from tokenworks.gateway.labels import Label
from tokenworks.server.kept import Kept, MemoryStore, Owner, owner_of
from tokenworks.server.kept_rows import DatabaseStore
from tokenworks.store.database import Database

T = TypeVar("T")
ADA, BOB = Owner("acme", "user:ada"), Owner("acme", "user:bob")
DAY = 86_400.0


class Wall:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def kept(identity: str, owner: Owner = ADA, size: int = 100, text: str = "x") -> Kept:
    response = b'{"said":"%b"}' % (text.encode() * max(1, (size - 13) // len(text)))
    return Kept(identity=identity, owner=owner, label=Label.PRIVATE, response=response, items=b"[]")


def store_of(database: Database, wall: Wall, most: int = 10_000) -> DatabaseStore:
    return DatabaseStore(database, most_bytes=most, most_age_s=30 * DAY, wall=wall)


def sizes(database: Database) -> tuple[dict[str, int], dict[str, int]]:
    """As they are counted, and as they are."""
    counted = database.read_now(lambda t: t.rows("SELECT tenant, size FROM response_sizes"))
    real = database.read_now(
        lambda t: t.rows("SELECT tenant, sum(size) FROM responses GROUP BY tenant")
    )
    return dict(counted), {tenant: int(size) for tenant, size in real}


def test_what_is_kept_comes_back_whole_to_its_owner_alone(database: Database) -> None:
    store = store_of(database, Wall())
    one = kept("resp_1", text='é\\u0000"')
    assert run(store.put(one))

    assert run(store.get(ADA, "resp_1")) == one
    for other in (BOB, Owner("acme", ""), Owner("other", "user:ada"), Owner("", "")):
        assert run(store.get(other, "resp_1")) is None
        assert not run(store.delete(other, "resp_1"))
    assert run(store.get(ADA, "resp_1")) == one
    assert run(store.get(ADA, "resp_\0")) is None
    assert not run(store.delete(ADA, "resp_\0"))


def test_what_is_deleted_is_gone_once(database: Database) -> None:
    store = store_of(database, Wall())
    run(store.put(kept("resp_1")))

    assert run(store.delete(ADA, "resp_1"))
    assert not run(store.delete(ADA, "resp_1"))
    assert run(store.get(ADA, "resp_1")) is None
    assert sizes(database) == ({}, {})


def test_what_is_too_old_is_not_there_and_then_deleted(database: Database) -> None:
    wall = Wall()
    store = store_of(database, wall)
    run(store.put(kept("resp_old")))
    wall.now += 29 * DAY
    run(store.put(kept("resp_new")))
    run(store.prune())
    assert run(store.get(ADA, "resp_old")) is not None

    wall.now += 2 * DAY
    assert run(store.get(ADA, "resp_old")) is None
    run(store.prune())
    assert run(store.get(ADA, "resp_new")) is not None
    counted, real = sizes(database)
    assert counted == real != {}
    assert database.read_now(lambda t: t.rows("SELECT id FROM responses")) == [("resp_new",)]


def test_one_that_is_larger_than_all_room_is_not_kept_and_takes_no_place(
    database: Database,
) -> None:
    store = store_of(database, Wall(), most=1000)
    run(store.put(kept("resp_1")))

    assert not run(store.put(kept("resp_2", size=2000)))
    assert run(store.get(ADA, "resp_1")) is not None
    assert not run(MemoryStore(1000).put(kept("resp_2", size=2000)))


def test_a_tenant_that_fills_the_room_loses_its_own(database: Database) -> None:
    wall = Wall()
    store = store_of(database, wall, most=1000)
    quiet = Owner("quiet", "")
    run(store.put(kept("resp_quiet", quiet)))
    for number in range(50):
        wall.now += 1
        run(store.put(kept(f"resp_{number}")))

    assert run(store.get(quiet, "resp_quiet")) is not None
    assert run(store.get(ADA, "resp_0")) is None
    assert run(store.get(ADA, "resp_49")) is not None


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "delete", "wait"]),
            st.integers(0, 5),
            st.integers(20, 700),
            st.sampled_from("ab"),
        ),
        max_size=20,
    )
)
def test_the_room_is_never_exceeded_and_sizes_add_up(
    database: Database, steps: list[tuple[str, int, int, str]]
) -> None:
    wall = Wall()
    store = store_of(database, wall, most=1500)
    database.write_now(
        lambda t: [t.run(f"DELETE FROM {x}") for x in ("responses", "response_sizes")]
    )
    for number, (what, name, size, tenant) in enumerate(steps):
        owner = Owner(tenant, "")
        if what == "put":
            assert run(store.put(kept(f"resp_{number}", owner, size)))
            assert run(store.get(owner, f"resp_{number}")) is not None
        elif what == "delete":
            run(store.delete(owner, f"resp_{name}"))
        else:
            wall.now += size * DAY / 50
            run(store.prune())
        counted, real = sizes(database)
        assert counted == real
        assert sum(real.values()) <= 1500


def test_what_has_to_go_at_once_is_not_said_to_be_kept(database: Database) -> None:
    store = store_of(database, Wall(), most=100)
    assert run(store.put(kept("small", Owner("a", "user:x"), size=50)))
    assert not run(store.put(kept("large", Owner("b", "user:x"), size=70)))
    assert run(store.get(Owner("b", "user:x"), "large")) is None


def test_keys_of_one_user_share_and_others_do_not() -> None:
    one = owner_of(Key(id="k1", tenant="acme", user="ada"))
    same = owner_of(Key(id="k2", tenant="acme", user="ada"))
    alone = [
        owner_of(Key(id="k1", tenant="acme")),
        owner_of(Key(id="k2", tenant="acme")),
        owner_of(Key(id="", tenant="acme")),
        owner_of(Key(id="k3", tenant="acme", user="key:k1")),
        owner_of(Key(id="k1", tenant="other", user="ada")),
    ]

    assert one == same
    assert len({one, *alone}) == 1 + len(alone)


def test_nothing_of_what_was_deleted_stays_in_sqlites_files(tmp_path: Path) -> None:
    path = tmp_path / "books.db"
    canary = "canary-of-a-private-conversation"

    def found() -> bool:
        return any(canary.encode() in file.read_bytes() for file in tmp_path.glob("books.db*"))

    with Database(f"sqlite:///{path}") as database:
        store = store_of(database, Wall(), most=1 << 20)
        run(store.put(kept("resp_other", BOB)))
        run(store.put(kept("resp_1", size=60_000, text=canary)))
        assert found()
        run(store.delete(ADA, "resp_1"))
        deadline = time.monotonic() + 20
        while found() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not found()
        assert run(store.get(BOB, "resp_other")) is not None


@pytest.mark.parametrize("most", [0, 1])
def test_without_room_nothing_is_kept(database: Database, most: int) -> None:
    assert not run(store_of(database, Wall(), most=most).put(kept("resp_1")))
    assert sizes(database) == ({}, {})

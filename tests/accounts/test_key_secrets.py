"""What must not be learnt from a key, or without one."""

import logging
import statistics
import time
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from issued_keys import SECRET, create, refused, run
from tokenworks.accounts import key_table
from tokenworks.accounts.key_store import KeyStore
from tokenworks.accounts.key_table import Entry, KeyTable
from tokenworks.accounts.keys import IssuedKey, Key, digest_of
from tokenworks.errors import UnknownCaller
from tokenworks.store import audit
from tokenworks.store.database import Database


def secrets_of(issued: IssuedKey, database: Database) -> list[str]:
    digests = database.read_now(lambda t: t.rows("SELECT digest, previous_digest FROM keys"))
    secret = issued.text.rpartition("_")[2]
    return [secret, issued.text, *(text for row in digests for text in row if text)]


def test_neither_secret_nor_hash_shows_in_anything_that_is_returned_or_logged(
    database: Database, store: KeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        issued = create(store)
        issued = run(store.rotate(issued.key.id, actor="test"))
        key = store.find(issued.text)
        refused(store, issued.text + "x")
    entry = Entry(key, digest_of(issued.text, SECRET))
    shown = [repr(issued), repr(key), str(key), repr(entry), repr(store), repr(store.table)]
    shown += [msgspec.json.encode(each).decode() for each in run(store.all())]
    shown += [repr(row) for row in database.read_now(audit.read)]
    shown.append(caplog.text)

    for secret in secrets_of(issued, database):
        assert not any(secret in text for text in shown)


def test_the_database_holds_no_text_of_a_key(database: Database, store: KeyStore) -> None:
    issued = create(store)
    rows = database.read_now(lambda t: t.rows("SELECT * FROM keys"))

    assert issued.text.rpartition("_")[2] not in repr(rows)


def test_a_hash_cannot_be_tested_without_the_installations_secret() -> None:
    assert digest_of("tw_a_b", SECRET) != digest_of("tw_a_b", b"t" * 32)


@pytest.mark.parametrize(
    "alter",
    [
        lambda text: text[:-1],
        lambda text: text + "a",
        lambda text: text.upper(),
        lambda text: f" {text}",
        lambda text: text.rpartition("_")[0],
        lambda text: text.replace("_", "-"),
        lambda text: "",
        lambda text: "\ud800" + text,
        lambda text: text * 1000,
        lambda text: text + "\0",
    ],
)
def test_no_text_but_the_keys_own_opens_it(store: KeyStore, alter: Callable[[str], str]) -> None:
    issued = create(store)

    assert refused(store, alter(issued.text)) == "This key is not known here"


def test_unknown_ids_and_wrong_secrets_cost_the_same_work_so_that_time_tells_no_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted, not timed: each text is hashed once, looked up once and compared once in full."""
    text = "tw_aaaaaaaaaaaaaaaa_" + "b" * 32
    table = KeyTable(SECRET, [Entry(Key(id="a" * 16, tenant="t"), digest_of(text, SECRET))])
    steps: list[tuple[str, int]] = []
    compare = key_table.hmac.compare_digest

    def counted_digest(text: str, secret: bytes) -> str:
        steps.append(("hash", len(text)))
        return digest_of(text, secret)

    def counted_compare(one: str, two: str) -> bool:
        steps.append(("compare", len(one) + len(two)))
        return compare(one, two)

    monkeypatch.setattr(key_table, "digest_of", counted_digest)
    monkeypatch.setattr(key_table.hmac, "compare_digest", counted_compare)
    seen = []
    for tried in (text[:-1] + "c", "tw_zzzzzzzzzzzzzzzz_" + "b" * 32, "x" * len(text)):
        steps.clear()
        with pytest.raises(UnknownCaller):
            table.find(tried, 0)
        seen.append(tuple(steps))

    assert set(seen) == {(("hash", len(text)), ("compare", 128))}


def test_a_key_is_found_in_a_few_microseconds_among_many() -> None:
    texts = [f"tw_{number:016d}_{'b' * 32}" for number in range(5000)]
    table = KeyTable(
        SECRET,
        [Entry(Key(id=text[3:19], tenant="t"), digest_of(text, SECRET)) for text in texts],
    )
    times = []
    for text in texts:
        begun = time.perf_counter()
        table.find(text, 0)
        times.append(time.perf_counter() - begun)

    assert statistics.median(times) < 20e-6


@given(st.text(max_size=300))
def test_any_text_is_refused_as_unknown_and_breaks_nothing(text: str) -> None:
    with pytest.raises(UnknownCaller, match="not known"):
        KeyTable(SECRET).find(text, 0)

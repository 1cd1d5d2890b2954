"""The audit log's chain: whatever is done to its rows shows."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenworks.store import audit
from tokenworks.store.audit import FIRST_HASH, Broken, Head
from tokenworks.store.database import Database
from tokenworks.store.transaction import Transaction

ROWS = 6


@pytest.fixture
def written(database: Database) -> Database:
    def write(transaction: Transaction) -> None:
        for number in range(ROWS):
            audit.append(
                transaction,
                at=1_700_000_000.123 + number,
                actor=f"key:{number % 2}",
                action="budget.set",
                subject="tenant:acme",
                details={"money": number, "was": None, "名": "é"},
            )

    database.write_now(write)
    return database


def change(database: Database, sql: str) -> None:
    database.write_now(lambda t: t.run(sql))


def verify(database: Database, kept: Head | None = None) -> Broken | None:
    return database.read_now(lambda t: audit.verify(t, kept=kept))


def test_a_log_that_nobody_touched_is_whole(written: Database) -> None:
    head = written.read_now(audit.head)
    rows = written.read_now(audit.read)

    assert verify(written, kept=head) is None
    assert head.number == len(rows) == ROWS
    assert rows[-1].hash == head.hash
    assert rows[0].details == '{"money":0,"was":null,"\\u540d":"\\u00e9"}'


def test_an_empty_log_is_whole(database: Database) -> None:
    assert verify(database) is None
    assert database.read_now(audit.head) == Head(0, FIRST_HASH)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at_ms", "at_ms + 1"),
        ("actor", "'key:9'"),
        ("action", "'budget.remove'"),
        ("subject", "'tenant:other'"),
        ("details", "'{}'"),
        ("hash", f"'{FIRST_HASH}'"),
    ],
)
def test_a_changed_field_shows_in_the_row_that_has_it(
    written: Database, column: str, value: str
) -> None:
    change(written, f"UPDATE audit SET {column} = {value} WHERE number = 3")

    found = verify(written)

    assert found is not None
    assert found.number == 3


def test_a_removed_row_shows(written: Database) -> None:
    change(written, "DELETE FROM audit WHERE number = 4")

    assert verify(written) == Broken(4, "it is missing")


def test_rows_that_changed_places_show(written: Database) -> None:
    for before, after in ((2, 99), (3, 2), (99, 3)):
        change(written, f"UPDATE audit SET number = {after} WHERE number = {before}")

    found = verify(written)

    assert found is not None
    assert found.number == 2


def test_a_row_before_the_first_shows(written: Database) -> None:
    change(written, f"INSERT INTO audit VALUES (0, 1, 'a', 'b', 'c', '{{}}', '{FIRST_HASH}')")

    found = verify(written)

    assert found is not None
    assert found.number == 1


def test_rows_cut_off_at_the_end_show_to_who_kept_the_head(written: Database) -> None:
    kept = written.read_now(audit.head)
    change(written, "DELETE FROM audit WHERE number > 4")

    assert verify(written) is None
    assert verify(written, kept=kept) == Broken(5, "it was cut off, with all that followed")


def test_a_chain_made_anew_shows_to_who_kept_the_head(written: Database) -> None:
    kept = written.read_now(audit.head)

    def forge(transaction: Transaction) -> None:
        transaction.run("DELETE FROM audit")
        for _ in range(ROWS + 1):
            audit.append(transaction, at=0, actor="x", action="y", subject="z")

    written.write_now(forge)

    assert verify(written) is None
    assert verify(written, kept=kept) == Broken(ROWS, "it is not the row whose hash was kept")


def test_a_change_that_fails_is_not_in_the_log(written: Database) -> None:
    def fail(transaction: Transaction) -> None:
        audit.append(transaction, at=0, actor="x", action="y", subject="z")
        raise LookupError

    with pytest.raises(LookupError):
        written.write_now(fail)

    assert written.read_now(audit.head).number == ROWS


FIELDS = st.tuples(st.integers(1, 9), st.integers(0, 9), *[st.text(max_size=4)] * 4)


@settings(max_examples=300)
@given(FIELDS, FIELDS)
def test_different_rows_have_different_hashes(one: tuple[object], two: tuple[object]) -> None:
    """Also where text moves from one field to the next."""
    hashes = [audit._hash(FIRST_HASH, *fields) for fields in (one, two)]  # type: ignore[arg-type]

    assert (hashes[0] == hashes[1]) == (one == two)

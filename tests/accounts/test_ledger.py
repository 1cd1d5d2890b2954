"""The ledger: once each, double entry, sums, bills, export."""

import asyncio
import csv
import io
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.accounts import export, ledger
from tokenworks.accounts.ledger import LedgerRow, entries_of
from tokenworks.accounts.periods import day_of
from tokenworks.accounts.usage import GROUPS, bill, usage
from tokenworks.errors import RequestError
from tokenworks.store.database import Database
from tokenworks.store.transaction import Transaction

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0


def row(
    name: str = "r",
    *,
    at: float = NOON,
    tenant: str = "acme",
    user: str = "ada",
    model: str = "m",
    backend: str = "cloud",
    status: str = "answered",
    prompt: int = 10,
    money: int = 7,
    reserved: int = 10,
    energy_j: float | None = None,
    gap_p50_ms: float | None = None,
) -> LedgerRow:
    return LedgerRow(
        id=name,
        at=at,
        day=day_of(at),
        tenant=tenant,
        user_name=user,
        key_id="k",
        model=model,
        backend=backend,
        tier="cloud",
        label="internal",
        status=status,
        prompt_tokens=prompt,
        cached_tokens=4,
        completion_tokens=5,
        reasoning_tokens=2,
        tokens=prompt + 5,
        money=money,
        reserved=reserved,
        reserved_tokens=20,
        energy_j=energy_j,
        first_token_ms=12.5,
        gap_p50_ms=gap_p50_ms,
        gap_p99_ms=None if gap_p50_ms is None else 2 * gap_p50_ms,
        attempts=1,
        route='{"why":"cheapest"}',
    )


def write(database: Database, *rows: LedgerRow) -> None:
    def work(transaction: Transaction) -> None:
        for each in rows:
            costs = ((each.backend, each.money),)
            ledger.write(transaction, each, entries_of(each.tenant, costs))

    database.write_now(work)


def test_a_row_is_read_as_it_was_written(database: Database) -> None:
    written = row(energy_j=0.1)
    write(database, written)

    assert database.read_now(lambda t: ledger.find(t, "r")) == written
    assert database.read_now(lambda t: ledger.find(t, "other")) is None


def test_a_request_cannot_be_written_twice(database: Database) -> None:
    write(database, row())

    with pytest.raises(Exception, match=r"(?i)unique"):
        write(database, row(money=9))

    assert database.read_now(lambda t: t.rows("SELECT COUNT(*), SUM(money) FROM entries")) == [
        (2, 0)
    ]


costs = st.lists(st.tuples(st.sampled_from(["a", "b", ""]), st.integers(0, 2**50)), max_size=4)


@given(costs)
def test_entries_of_a_request_add_up_to_zero(costs: list[tuple[str, int]]) -> None:
    entries = entries_of("acme", costs)

    assert sum(money for _, money in entries) == 0
    assert sum(money for account, money in entries if account == "tenant:acme") == sum(
        cost for _, cost in costs
    )
    assert all(money for _, money in entries)


def test_entries_that_do_not_add_up_are_refused_and_nothing_is_written(database: Database) -> None:
    with pytest.raises(ValueError, match="do not add up"):
        database.write_now(lambda t: ledger.write(t, row(), [("tenant:acme", 1)]))

    assert database.read_now(lambda t: ledger.find(t, "r")) is None


@pytest.fixture
def filled(database: Database) -> Database:
    write(
        database,
        row("1", at=NOON - 40 * DAY, money=1),
        row("2", user="ada", money=2, energy_j=1.5),
        row("3", user="bob", money=30, reserved=10, model="big"),
        row("4", user="bob", money=4, status="lost", at=NOON + DAY),
        row("5", tenant="other", money=500),
        row("6", at=datetime(2026, 12, 1, tzinfo=UTC).timestamp(), money=600),
    )
    return database


def test_usage_is_summed_by_whatever_is_asked(filled: Database) -> None:
    rows = filled.read_now(
        lambda t: usage(t, by=("tenant", "user"), since="2026-11-28", until="2026-12-01")
    )

    assert [(each.group, each.requests, each.money) for each in rows] == [
        ({"tenant": "acme", "user": "ada"}, 1, 2),
        ({"tenant": "acme", "user": "bob"}, 2, 34),
        ({"tenant": "other", "user": "ada"}, 1, 500),
    ]
    ada, bob, _ = rows
    assert (ada.energy_j, ada.lost, ada.excess) == (1.5, 0, 0)
    assert (bob.lost, bob.excess) == (1, 20)
    assert (bob.prompt_tokens, bob.cached_tokens) == (20, 8)
    assert (bob.completion_tokens, bob.reasoning_tokens, bob.tokens) == (10, 4, 30)


def test_usage_tells_how_long_people_waited(database: Database) -> None:
    write(database, row("1", gap_p50_ms=2.0), row("2", gap_p50_ms=4.0), row("3"))
    write(database, row("4", user="bob"))
    ada, bob = database.read_now(lambda t: usage(t, by=("user",)))

    assert (ada.first_token_ms, ada.gap_p50_ms, ada.gap_p99_ms) == (12.5, 3.0, 8.0)
    assert (bob.first_token_ms, bob.gap_p50_ms, bob.gap_p99_ms) == (12.5, None, None)


@pytest.mark.parametrize("group", list(GROUPS))
def test_a_bill_has_lines_by_whatever_is_asked(filled: Database, group: str) -> None:
    found = filled.read_now(lambda t: bill(t, "acme", "2026-11", by=(group,)))

    assert found.money == 36
    assert all(list(line.group) == [group] for line in found.lines)


def test_a_bill_says_what_each_backend_is_owed(database: Database) -> None:
    """Of an answer that two backends were asked for, each gets its part."""
    both = row("1", backend="far", money=22)
    entries = entries_of("acme", (("slow", 7), ("far", 15)))
    database.write_now(lambda t: ledger.write(t, both, entries))
    write(database, row("2", backend="far", money=1), row("3", tenant="other", money=9))
    found = database.read_now(lambda t: bill(t, "acme", "2026-11"))

    assert found.backends == {"far": 16, "slow": 7}
    assert found.money == sum(found.backends.values())


def test_usage_of_some_and_by_day(filled: Database) -> None:
    days = filled.read_now(lambda t: usage(t, by=("day",), where={"tenant": "acme"}))
    (whole,) = filled.read_now(usage)

    assert [(each.group["day"], each.money) for each in days] == [
        ("2026-10-19", 1),
        ("2026-11-28", 32),
        ("2026-11-29", 4),
        ("2026-12-01", 600),
    ]
    assert (whole.group, whole.requests, whole.money) == ({}, 6, 1137)
    assert filled.read_now(lambda t: usage(t, where={"tenant": "nobody"})) == []


def test_a_bill_is_what_a_tenant_owes_for_a_month_and_the_entries_say_the_same(
    filled: Database,
) -> None:
    found = filled.read_now(lambda t: bill(t, "acme", "2026-11"))

    assert [(line.group, line.money) for line in found.lines] == [
        ({"model": "big", "backend": "cloud"}, 30),
        ({"model": "m", "backend": "cloud"}, 6),
    ]
    assert found.money == 36
    owed = filled.read_now(
        lambda t: t.row(
            "SELECT SUM(e.money) FROM entries e JOIN requests r ON r.id = e.request_id "
            "WHERE e.account = 'tenant:acme' AND r.day LIKE '2026-11-%'"
        )
    )
    assert owed == (36,)
    assert filled.read_now(lambda t: bill(t, "acme", "2026-12")).money == 600


@pytest.mark.parametrize(
    "month", ["2026", "2026-13", "0000-05", "2026-11-01", "'; DROP TABLE requests"]
)
def test_what_is_no_month_is_refused(database: Database, month: str) -> None:
    with pytest.raises(RequestError, match="is no month"):
        database.read_now(lambda t: bill(t, "acme", month))


@pytest.mark.parametrize(
    "arguments",
    [
        {"by": ("route",)},
        {"where": {"1; --": "x"}},
        {"since": "yesterday"},
        {"until": "2026-02-30"},
    ],
)
def test_what_usage_cannot_be_asked_is_refused(
    database: Database, arguments: dict[str, object]
) -> None:
    with pytest.raises(RequestError):
        database.read_now(lambda t: usage(t, **arguments))  # type: ignore[arg-type]


def test_a_bill_s_lines_are_exported_and_run_nothing(filled: Database) -> None:
    write(filled, row("7", user="=cmd()", money=3))
    bills = [filled.read_now(lambda t: bill(t, "acme", "2026-11", by=("user", "label")))]
    read = list(csv.DictReader(io.StringIO(export.bills_csv(bills))))

    assert [(one["tenant"], one["month"], one["user"], one["money"]) for one in read] == [
        ("acme", "2026-11", "'=cmd()", "3"),
        ("acme", "2026-11", "ada", "2"),
        ("acme", "2026-11", "bob", "34"),
    ]
    assert {"cached_tokens", "reasoning_tokens", "energy_j", "gap_p99_ms"} <= set(read[0])
    assert export.bills_csv([]).startswith("tenant,month,requests")


def exported(database: Database, tenant: str | None = None) -> list[LedgerRow]:
    async def main() -> list[LedgerRow]:
        until = NOON + 2 * DAY
        pages = export.pages(database, since=NOON - DAY, until=until, tenant=tenant)
        return [each async for page in pages for each in page]

    return asyncio.run(main())


def test_an_export_has_every_request_once_in_order_of_time(database: Database) -> None:
    """Also where many came at the same moment, and on the edges."""
    rows = [row(f"{number:04d}", at=NOON + number // 700) for number in range(1500)]
    edges = [row("first", at=NOON - DAY), row("late", at=NOON + 2 * DAY), row("o", tenant="other")]
    write(database, *rows, *edges)

    found = [each.id for each in exported(database)]

    assert found == ["first", *(f"{number:04d}" for number in range(700)), "o"] + [
        f"{number:04d}" for number in range(700, 1500)
    ]
    assert [each.id for each in exported(database, "other")] == ["o"]


def test_an_export_is_read_by_other_programs(filled: Database) -> None:
    rows = exported(filled)

    text = export.csv_header() + export.csv_lines(rows)
    read = list(csv.DictReader(io.StringIO(text)))
    objects = [json.loads(line) for line in export.json_lines(rows).splitlines()]

    assert [each["id"] for each in read] == [each["id"] for each in objects] == ["2", "3", "5", "4"]
    assert read[0]["energy_j"] == "1.5"
    assert read[1]["energy_j"] == ""
    assert objects[1]["energy_j"] is None


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_no_name_becomes_a_formula_in_a_spreadsheet(begin: str) -> None:
    (cells,) = csv.reader(io.StringIO(export.csv_lines([row(model=f"{begin}cmd()")]), newline=""))

    assert f"'{begin}cmd()" in cells
    assert not any(cell.startswith(begin) for cell in cells)

"""`/admin/usage` and `/admin/ledger`: what was used, by whom and where, and every request of it."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from functools import partial
from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from tokenworks.accounts import export
from tokenworks.accounts.ledger import LedgerRow
from tokenworks.accounts.usage import bill, usage
from tokenworks.server.admin.access import Accountant, Administration, Json, tenant_seen
from tokenworks.server.admin.fields import Day, Group, Month, Tenant
from tokenworks.server.admin.shapes import REFUSALS, BillShown, Listed, UsageShown

_TEXT: Final = {"schema": {"type": "string"}}
_LEDGER: Final = {"application/jsonl": _TEXT, "text/csv": _TEXT}


def usage_router(administration: Administration) -> APIRouter:
    router = APIRouter(prefix="/admin", tags=["usage"], responses=REFUSALS)
    database = administration.books.database

    @router.get("/usage", response_model=Listed[UsageShown])
    async def sums(
        reader: Accountant,
        by: Annotated[list[Group], Query(max_length=9)] = ["tenant"],  # noqa: B006  (FastAPI copies)
        since: Day | None = None,
        until: Day | None = None,
        tenant: Tenant | None = None,
    ) -> Json:
        """Sums of requests by tenant, user, key, model, backend, tier, label, status or day.

        Money in micro-dollars; `until` is the first day that does not count.
        """
        seen = tenant_seen(reader, tenant)
        where = {} if seen is None else {"tenant": seen}
        rows = await database.read(
            partial(usage, by=tuple(by), since=_text(since), until=_text(until), where=where)
        )
        return {"data": [msgspec.to_builtins(row) for row in rows]}

    @router.get("/bill", response_model=BillShown)
    async def one_bill(reader: Accountant, tenant: Tenant, month: Month) -> Json:
        """What a tenant owes for a month."""
        owed = await database.read(
            partial(bill, tenant=tenant_seen(reader, tenant) or tenant, month=month)
        )
        return {**msgspec.to_builtins(owed), "money": owed.money}

    @router.get("/ledger", response_class=StreamingResponse, responses={200: {"content": _LEDGER}})
    async def rows(
        reader: Accountant,
        since: Day,
        until: Day,
        tenant: Tenant | None = None,
        form: Literal["csv", "jsonl"] = "jsonl",
    ) -> Response:
        """Every request in order of time, as CSV or a JSON object a line."""
        pages = export.pages(
            database,
            since=_start(since),
            until=_start(until),
            tenant=tenant_seen(reader, tenant),
        )

        lines = _lines(pages, await anext(pages, []), form)
        kind = "text/csv" if form == "csv" else "application/jsonl"
        return StreamingResponse(lines, media_type=kind)

    return router


async def _lines(
    pages: AsyncIterator[list[LedgerRow]], first: list[LedgerRow], form: str
) -> AsyncIterator[str]:
    """`first` was read before: what fails there does so before the answer has begun."""
    write = export.csv_lines if form == "csv" else export.json_lines
    yield (export.csv_header() if form == "csv" else "") + write(first)
    async for page in pages:
        yield write(page)


def _start(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()

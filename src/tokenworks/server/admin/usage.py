"""`/admin/usage` and `/admin/ledger`: what was used, by whom and where, and every request of it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from tokenworks.accounts import export
from tokenworks.accounts.usage import bill, usage
from tokenworks.errors import RequestError
from tokenworks.server.admin.access import Accountant, Administration, Json, tenant_seen

Day = Annotated[str, Query(pattern=r"^\d{4}-\d{2}-\d{2}$")]
Month = Annotated[str, Query(pattern=r"^\d{4}-\d{2}$")]


def usage_router(administration: Administration) -> APIRouter:
    router = APIRouter(prefix="/admin", tags=["usage"])
    database = administration.books.database

    @router.get("/usage")
    async def sums(
        reader: Accountant,
        by: Annotated[list[str], Query(max_length=9)] = ["tenant"],  # noqa: B006  (FastAPI copies)
        since: Day | None = None,
        until: Day | None = None,
        tenant: str | None = None,
    ) -> Json:
        """Sums of requests by tenant, user, key, model, backend, tier, label, status or day.

        Money in micro-dollars; `until` is the first day that does not count.
        """
        seen = tenant_seen(reader, tenant)
        where = {} if seen is None else {"tenant": seen}
        rows = await database.read(
            partial(usage, by=tuple(by), since=since, until=until, where=where)
        )
        return {"data": [msgspec.to_builtins(row) for row in rows]}

    @router.get("/bill")
    async def one_bill(reader: Accountant, tenant: str, month: Month) -> Json:
        """What a tenant owes for a month."""
        owed = await database.read(
            partial(bill, tenant=tenant_seen(reader, tenant) or tenant, month=month)
        )
        return {**msgspec.to_builtins(owed), "money": owed.money}

    @router.get("/ledger")
    async def rows(
        reader: Accountant,
        since: Day,
        until: Day,
        tenant: str | None = None,
        form: Literal["csv", "jsonl"] = "jsonl",
    ) -> Response:
        """Every request in order of time, as CSV or a JSON object a line."""
        pages = export.pages(
            database,
            since=_start(since),
            until=_start(until),
            tenant=tenant_seen(reader, tenant),
        )

        async def lines() -> AsyncIterator[str]:
            if form == "csv":
                yield export.csv_header()
            async for page in pages:
                yield export.csv_lines(page) if form == "csv" else export.json_lines(page)

        kind = "text/csv" if form == "csv" else "application/jsonl"
        return StreamingResponse(lines(), media_type=kind)

    return router


def _start(day: str) -> float:
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise RequestError(f"{day[:40]!r} is no day", hint="e.g. 2026-11-28") from None

"""`/admin/budgets`: how much money and how many tokens a key, a user or a tenant may use."""

from typing import Final, Literal

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.config import JsonDict

from tokenworks.accounts.budget_rows import Budget
from tokenworks.accounts.money import parse_money
from tokenworks.server.admin.access import Admin, Administration, Json, actor_of
from tokenworks.server.admin.fields import Count, Holder, Money
from tokenworks.server.admin.shapes import NOT_FOUND, REFUSALS, WITH_BODY, BudgetShown, Listed
from tokenworks.server.replies import refuse

Period = Literal["day", "month", "total"]


_SOMETHING: Final[JsonDict] = {
    "anyOf": [
        {"required": ["money"], "properties": {"money": {"not": {"type": "null"}}}},
        {"required": ["tokens"], "properties": {"tokens": {"not": {"type": "null"}}}},
    ]
}
"""A budget limits money, tokens or both."""


class BudgetWanted(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_SOMETHING)

    holder: Holder
    period: Period = "month"
    money: Money | None = None
    tokens: Count | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> "BudgetWanted":
        if self.money is None and self.tokens is None:
            raise ValueError("a budget needs money, tokens or both")
        return self


def budgets_router(administration: Administration) -> APIRouter:
    router = APIRouter(prefix="/admin/budgets", tags=["budgets"], responses=REFUSALS)
    budgets = administration.books.budgets

    @router.get("", response_model=Listed[BudgetShown])
    async def list_budgets(_: Admin) -> Json:
        """All budgets, with what was used in the period that runs. Money in micro-dollars."""
        return {"data": [msgspec.to_builtins(state) for state in await budgets.all()]}

    @router.put("", status_code=204, responses=WITH_BODY)
    async def set_budget(admin: Admin, wanted: BudgetWanted) -> None:
        """Set a budget, in place of the one for the same holder and period."""
        money = None if wanted.money is None else parse_money(wanted.money, param="money")
        budget = Budget(
            holder=wanted.holder, period=wanted.period, money=money, tokens=wanted.tokens
        )
        await budgets.set(budget, actor=actor_of(admin))

    @router.delete("", status_code=204, responses=NOT_FOUND)
    async def remove_budget(admin: Admin, holder: Holder, period: Period = "month") -> None:
        """Lift a limit; what was used is kept."""
        if not await budgets.remove(holder, period, actor=actor_of(admin)):
            raise refuse(404, "budget_not_found", "There is no such budget")

    return router

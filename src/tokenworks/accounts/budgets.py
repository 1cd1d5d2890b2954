"""Budgets: set for a holder and a period, reserved from before a request is sent, settled after."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

import msgspec

from tokenworks.accounts import budget_rows, reservations
from tokenworks.accounts.budget_rows import Budget
from tokenworks.accounts.holders import check_holder
from tokenworks.accounts.ledger import LedgerRow, Settlement
from tokenworks.accounts.money import MOST, show_money
from tokenworks.accounts.periods import period_of
from tokenworks.accounts.reservations import Request, Reservation, Settled
from tokenworks.accounts.spending import Amounts, BudgetState, states_of
from tokenworks.errors import RequestError
from tokenworks.store import audit
from tokenworks.store.database import Database
from tokenworks.store.dialects import StoreError
from tokenworks.store.instances import Instance
from tokenworks.store.transaction import Transaction
from tokenworks.store.writer import Work

logger = logging.getLogger(__name__)

T = TypeVar("T")

MOST_UNFINISHED: Final = 10_000
"""Settlements kept in memory that the database could not take. Requests beyond stay reserved until
this process ends, and are then booked as lost."""


class Budgets:
    """`reserve` before a request is sent, `extend` where it needs more, then `settle` or `release`.

    Spent and reserved together never exceed a budget, whatever races and whoever is killed: all of
    a caller's budgets are checked and reserved in one transaction, and it is committed before
    `reserve` returns. Call `recover` at the start and every half minute.
    """

    def __init__(
        self, database: Database, instance: Instance, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._instance = instance
        self._wall = wall
        self._count = itertools.count(1)
        self._unfinished: list[Work[object]] = []

    @property
    def unsettled(self) -> int:
        """Ends of requests that the database could not take yet."""
        return len(self._unfinished)

    async def reserve(self, request: Request, amounts: Amounts) -> Reservation:
        """Reserve, durably. Use the id that the reservation has from here on.

        Raises BudgetError with `retry_after_s`, UnknownCaller for a key that was revoked meanwhile,
        StoreError. However it ends other than by returning, nothing remains reserved.
        """
        made: list[Reservation] = []

        def work(transaction: Transaction) -> Reservation:
            made.append(
                reservations.reserve(
                    transaction,
                    request,
                    amounts,
                    instance=self._instance.id,
                    at=self._wall(),
                    another=self._another,
                )
            )
            return made[-1]

        def undo(transaction: Transaction) -> None:
            # Runs after `work`, as units do in their order; whether that was committed, it sees.
            if made:
                reservations.release(transaction, made[-1])

        try:
            return await self._database.write(work)
        except (asyncio.CancelledError, StoreError):
            with suppress(StoreError):  # closed: the next process finds it
                self._finish(undo)
            raise

    async def extend(
        self, reservation: Reservation, further: Amounts, *, backend: str
    ) -> Reservation:
        """Reserve more, to go on at another backend. Raises BudgetError: what was reserved stays.

        Raises RequestError if the request has ended.
        """

        def work(transaction: Transaction) -> bool:
            return reservations.extend(
                transaction, reservation.request_id, further, backend=backend, at=self._wall()
            )

        if not await self._database.write(work):
            raise RequestError(f"The request {reservation.request_id} has ended")
        whole = Amounts.at_most(
            reservation.amounts.money + further.money, reservation.amounts.tokens + further.tokens
        )
        return Reservation(
            request_id=reservation.request_id,
            caller=reservation.caller,
            amounts=whole,
            at=reservation.at,
        )

    async def settle(self, settlement: Settlement) -> Settled | None:
        """Book what a request has cost and write it in the ledger; a second time changes nothing.

        None if nothing was reserved for it. Raises StoreError; `recover` then tries again. It takes
        place even if whoever awaits it is cancelled.
        """
        return await asyncio.shield(
            self._finish(lambda transaction: reservations.settle(transaction, settlement))
        )

    async def release(self, reservation: Reservation) -> None:
        """Give back what was reserved for a request that was never sent to a backend."""
        await asyncio.shield(
            self._finish(lambda transaction: reservations.release(transaction, reservation))
        )

    async def recover(self) -> list[LedgerRow]:
        """Book what processes had reserved that died; settle what the database could not take.

        Returns the requests that were lost. Raises StoreError.
        """
        unfinished, self._unfinished = self._unfinished, []
        for work in unfinished:
            self._finish(work)
        lost = await self._database.write(self._lose)
        if lost:
            money = show_money(sum(row.money for row in lost))
            logger.warning(
                "%d requests were lost with a gateway that died; what they had reserved, %s, "
                "counts as spent",
                len(lost),
                money,
            )
        return lost

    async def set(self, budget: Budget, *, actor: str) -> None:
        """Set a holder's budget for a period; what was used of it before counts.

        Raises RequestError for a holder, a period or an amount that cannot be.
        """
        holder, period = check_holder(budget.holder), period_of(budget.period, param="period")
        for name in ("money", "tokens"):
            amount = getattr(budget, name)
            if amount is not None and not 0 <= amount <= MOST:
                raise RequestError(f"{name} {amount} is not between 0 and 2**53", param=name)
        checked = Budget(holder=holder, period=period, money=budget.money, tokens=budget.tokens)

        def work(transaction: Transaction) -> None:
            budget_rows.put(transaction, checked)
            self._audit(transaction, actor, "budget.set", checked)

        await self._database.write(work)

    async def remove(self, holder: str, period: str, *, actor: str) -> bool:
        """Whether there was such a budget. What was used of it is kept, should it be set again."""
        gone = Budget(holder=holder, period=period)

        def work(transaction: Transaction) -> bool:
            there_was = budget_rows.remove(transaction, holder, period)
            if there_was:
                self._audit(transaction, actor, "budget.remove", gone)
            return there_was

        return await self._database.write(work)

    async def all(self) -> list[BudgetState]:
        """Every budget with what was used of it in the period that runs."""

        def query(transaction: Transaction) -> list[BudgetState]:
            return [
                state
                for holder in budget_rows.holders(transaction)
                for state in states_of(transaction, (holder,), self._wall())
            ]

        return await self._database.read(query)

    def _finish(self, work: Work[T]) -> "asyncio.Future[T]":
        """Hand in a unit that may be done twice, and keep it for later if the database fails."""
        done = self._database.submit(work)
        done.add_done_callback(partial(self._keep_failed, work))
        return done

    def _keep_failed(self, work: Work[T], done: "asyncio.Future[T]") -> None:
        failed = not done.cancelled() and isinstance(done.exception(), StoreError)
        if failed and len(self._unfinished) < MOST_UNFINISHED:
            self._unfinished.append(work)

    def _audit(self, transaction: Transaction, actor: str, action: str, budget: Budget) -> None:
        audit.append(
            transaction,
            at=self._wall(),
            actor=actor,
            action=action,
            subject=budget.holder,
            details=msgspec.to_builtins(budget),
        )

    def _lose(self, transaction: Transaction) -> list[LedgerRow]:
        now = self._wall()
        reservations.forget_lost(transaction, now)
        return [
            row
            for number in reservations.instances(transaction)
            if self._instance.is_gone(transaction, number)
            for row in reservations.lose(transaction, number)
        ]

    def _another(self, request_id: str) -> str:
        return f"{request_id}.{self._instance.id:x}-{next(self._count)}"

"""One request's account: opened before anything is sent, closed once, whatever happens."""

import asyncio
import logging
from collections.abc import Callable

from tokenworks.accounts.keys import Key
from tokenworks.accounts.ledger import Status
from tokenworks.accounts.reservations import Request, Reservation
from tokenworks.accounts.spending import Amounts
from tokenworks.errors import TokenworksError
from tokenworks.gateway.backend import Chunk
from tokenworks.gateway.books import Books
from tokenworks.gateway.failover import Outcome
from tokenworks.gateway.planning import Plan
from tokenworks.gateway.recent import Recent, Record
from tokenworks.gateway.settling import Ended, settlement_of, taken_by
from tokenworks.gateway.telling import operation_of
from tokenworks.gateway.timing import Timing
from tokenworks.telemetry.clock import Clock
from tokenworks.telemetry.metrics import ModelMetrics
from tokenworks.telemetry.trace import current

logger = logging.getLogger(__name__)


class Account:
    """`open`, then `saw` each chunk, then `close`: a second close changes nothing."""

    def __init__(
        self,
        books: Books,
        key: Key,
        plan: Plan,
        recent: Recent,
        series: ModelMetrics,
        clock: Clock,
        unix_time: Callable[[], float],
    ) -> None:
        self.outcome = Outcome()
        self.plan = plan
        self._books, self._key, self._recent = books, key, recent
        self._at = unix_time()
        self._timing = Timing(series, clock)
        self._closed = False
        self._taken = 0
        self._reservation: Reservation | None = None
        self._id = plan.request.request_id
        self.record = Record(
            request_id=self._id,
            at=self._at,
            tenant=key.tenant,
            key_id=key.id,
            model=plan.request.model,
            label=plan.labelled.label.word,
            found=plan.labelled.kinds,
            masked=0 if plan.vault is None else len(plan.vault),
            route=plan.route,
            operation=operation_of(plan.request),
            trace=current.get(),
        )

    async def open(self) -> None:
        """Take its tokens from the rate limits, reserve what it may cost: the request itself was
        taken when it was admitted. Raises RateError, BudgetError."""
        plan = self.plan
        try:
            self._books.admit(self._key, plan.most.tokens, requests=0)
            self._taken = plan.most.tokens
            request = Request(
                request_id=self._id,
                caller=self._key.caller,
                model=plan.request.model,
                backend=plan.attempts[0].name,
                label=plan.labelled.label.word,
            )
            self._reservation = await self._books.reserve(request, plan.most)
            self._id = self.record.request_id = self._reservation.request_id
            self._recent.add(self.record)
        except (TokenworksError, asyncio.CancelledError) as error:
            self._recent.add(self.record)
            self._end("refused" if isinstance(error, TokenworksError) else "cancelled", error)
            self._books.correct(self._key, taken=self._taken, used=0)
            raise

    async def extend(self, backend: str, further: Amounts) -> None:
        """Another backend is about to go on with an answer that one has begun, and been paid for.

        Raises BudgetError.
        """
        if self._reservation is not None:
            self._reservation = await self._books.extend(
                self._reservation, further, backend=backend
            )

    def saw(self, chunk: Chunk) -> None:
        self._timing.chunk(chunk)

    async def close(self, status: Status, error: Exception | None = None) -> None:
        """Book what it has cost. The books do that whether or not whoever waits is cancelled."""
        if self._closed:
            return
        self._closed = True
        plan = self.plan
        ended = Ended(
            request_id=self._id,
            model=plan.request.model,
            label=plan.labelled.label,
            status=status,
            prompt_bound=plan.prompt_tokens,
            at=self._at,
        )
        taken = taken_by(ended, self.outcome.tried, plan.placed)
        settlement = settlement_of(ended, taken, plan.placed, self._timing)
        self._timing.end()
        self._books.correct(self._key, taken=self._taken, used=settlement.tokens)
        self.record.settled(settlement, [one.described() for one in taken])
        self._end(status, error)
        try:
            await self._books.settle(settlement)
        except TokenworksError as problem:
            # The reservation stays, and is booked in full once this process is gone.
            logger.error("the books did not take request %s: %s", self._id, problem.message)

    def _end(self, status: str, error: BaseException | None) -> None:
        record, timing = self.record, self._timing
        record.status = status
        record.error = type(error).__name__ if error is not None else ""
        record.first_token_ms = timing.first_ms
        record.total_ms = timing.total_ms
        self._recent.ended(record)

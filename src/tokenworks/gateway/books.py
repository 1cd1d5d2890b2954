"""What the gateway asks of the accounts: may this caller, is there money, what did it cost."""

from typing import Protocol

from tokenworks.accounts.budgets import Budgets
from tokenworks.accounts.key_store import KeyStore
from tokenworks.accounts.keys import Key
from tokenworks.accounts.ledger import Settlement
from tokenworks.accounts.limits import Limits
from tokenworks.accounts.reservations import Request, Reservation
from tokenworks.accounts.spending import Amounts


class Books(Protocol):
    def admit(self, key: Key, tokens: int, *, requests: int = 1) -> None:
        """Take a request of so many tokens from the rate limits. Raises RateError."""
        ...

    def correct(self, key: Key, *, taken: int, used: int) -> None:
        """It has used so many tokens, not those that were taken."""
        ...

    async def reserve(self, request: Request, amounts: Amounts) -> Reservation:
        """Reserve, durably. Its id is what the ledger knows the request by. Raises BudgetError."""
        ...

    async def extend(
        self, reservation: Reservation, further: Amounts, *, backend: str
    ) -> Reservation:
        """Reserve more, to go on at another backend. Raises BudgetError."""
        ...

    async def settle(self, settlement: Settlement) -> None:
        """Book what it has cost, durably and once, also if whoever waits is cancelled."""
        ...


class NoBooks:
    """Lets everybody ask and writes nothing down."""

    def admit(self, key: Key, tokens: int, *, requests: int = 1) -> None:
        pass

    def correct(self, key: Key, *, taken: int, used: int) -> None:
        pass

    async def reserve(self, request: Request, amounts: Amounts) -> Reservation:
        return Reservation(
            request_id=request.request_id, caller=request.caller, amounts=amounts, at=0.0
        )

    async def extend(
        self, reservation: Reservation, further: Amounts, *, backend: str
    ) -> Reservation:
        return reservation

    async def settle(self, settlement: Settlement) -> None:
        pass


class KeptBooks:
    """The books of the installation's database."""

    def __init__(self, keys: KeyStore, budgets: Budgets, limits: Limits) -> None:
        self._keys, self._budgets, self._limits = keys, budgets, limits

    def admit(self, key: Key, tokens: int, *, requests: int = 1) -> None:
        if key.id:
            self._limits.admit(self._keys.allowances(key), tokens, requests=requests)

    def correct(self, key: Key, *, taken: int, used: int) -> None:
        if key.id and taken:
            self._limits.correct(self._keys.allowances(key), taken=taken, used=used)

    async def reserve(self, request: Request, amounts: Amounts) -> Reservation:
        return await self._budgets.reserve(request, amounts)

    async def extend(
        self, reservation: Reservation, further: Amounts, *, backend: str
    ) -> Reservation:
        return await self._budgets.extend(reservation, further, backend=backend)

    async def settle(self, settlement: Settlement) -> None:
        await self._budgets.settle(settlement)

"""What each tenant has been given, so that the next rows go to whoever has been given least.

Counts rows computed, as the virtual token counters of Sheng et al. do (OSDI 2024). Knows tenants by
name; knows no requests.
"""

from collections import Counter

MOST_OWED = 4096
"""Rows that one tenant can be ahead of another that asks too: so long can it be kept waiting for
what it had while the other asked for little."""


class Shares:
    """Rows computed for the tenants that ask for something, and for those that lately did.

    Who comes anew starts level with whoever has been given least: having asked for nothing earns
    nothing. Who goes and comes back has not forgotten what it was given.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self.asking: Counter[str] = Counter()
        """How many requests each tenant has, of those that have any."""

    def __getitem__(self, tenant: str) -> int:
        """What a tenant that asks has been given, in rows above an arbitrary start."""
        return self._rows[tenant]

    def join(self, tenant: str) -> None:
        """One more request of this tenant."""
        if not self.asking[tenant]:
            least = self._least()
            self._rows[tenant] = max(self._rows.get(tenant, least), least)
        self.asking[tenant] += 1

    def leave(self, tenant: str) -> None:
        """One request less."""
        self.asking[tenant] -= 1
        if not self.asking[tenant]:
            del self.asking[tenant]
            self._forget()

    def charge(self, tenant: str, rows: int) -> None:
        """So many rows were computed for a tenant that asks."""
        self._rows[tenant] += rows

    def settle(self) -> None:
        """Let nobody be further ahead than MOST_OWED. To be called now and then."""
        if len(self.asking) > 1:
            most = self._least() + MOST_OWED
            for tenant, rows in self._rows.items():
                if rows > most:
                    self._rows[tenant] = most

    def _least(self) -> int:
        return min((self._rows[tenant] for tenant in self.asking), default=0)

    def _forget(self) -> None:
        """Who does not ask and is not ahead would start level anyway."""
        least = self._least()
        self._rows = {
            tenant: rows
            for tenant, rows in self._rows.items()
            if tenant in self.asking or (self.asking and rows > least)
        }

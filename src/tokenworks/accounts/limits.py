"""Rate limits: token buckets for requests and tokens a minute, of a key, a user and a tenant.

A bucket holds a minute's worth, so that a burst may use what a quiet minute left (the token bucket
of RFC 2697's kind, refilled continuously). Buckets are in memory: each gateway process has its own.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from tokenworks.accounts.holders import show_holder
from tokenworks.errors import RateError
from tokenworks.telemetry.clock import Clock

_SWEEP_EVERY: Final = 1024
"""Admitted requests between two looks for buckets that are full, and so need not be kept."""

_NO_TIME_S: Final = 1e-6
"""Waits as short as rounding makes them are none."""


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What a holder may use a minute; None: as much as it likes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


Allowances = Sequence[tuple[str, Allowance]]
"""Holders and what they may use."""


class _Bucket:
    """`level` is what is left now; below zero, it was lent and has to come back first."""

    __slots__ = ("_at", "_level", "_per_minute")

    def __init__(self, per_minute: int, now: float) -> None:
        self._per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def resize(self, per_minute: int) -> None:
        """An allowance that changes holds from now on."""
        if per_minute != self._per_minute:
            self._level += per_minute - self._per_minute
            self._per_minute = per_minute

    def level(self, now: float) -> float:
        passed = max(0.0, now - self._at)
        return min(float(self._per_minute), self._level + passed * self._per_minute / 60)

    def wait_s(self, amount: int, now: float) -> float:
        """Seconds until `amount` may be taken. What is more than a minute's worth may be taken once
        the bucket is full, and is then owed."""
        if self._per_minute <= 0:
            return 60.0
        seconds = (min(amount, self._per_minute) - self.level(now)) * 60 / self._per_minute
        return seconds if seconds > _NO_TIME_S else 0.0

    def take(self, amount: float, now: float) -> None:
        self._level = self.level(now) - amount
        self._at = now

    def is_full(self, now: float) -> bool:
        return self.level(now) >= self._per_minute


class Limits:
    """Admits requests, or says when to come back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._until_sweep = _SWEEP_EVERY

    def admit(self, allowances: Allowances, tokens: int, *, requests: int = 1) -> None:
        """Take requests and `tokens` from every holder's buckets, or nothing from any.

        Raises RateError with the time after which all of them would have enough.
        """
        now = self._clock.now()
        wanted = self._wanted(allowances, tokens, requests, now)
        waits = [(each[0].wait_s(each[1], now), *each[2:]) for each in wanted]
        seconds, unit, holder, per_minute = max(waits, default=(0.0, "", "", 0))
        if seconds > 0:
            raise RateError(
                f"{show_holder(holder)} may use {per_minute:,} {unit} a minute, "
                f"and has used them: try again in {seconds:.1f} s",
                retry_after_s=seconds,
            )
        for bucket, amount, *_ in wanted:
            bucket.take(amount, now)
        self._sweep(now)

    def correct(self, allowances: Allowances, *, taken: int, used: int) -> None:
        """A request has ended: `taken` tokens were taken for it, and it has `used` others."""
        now = self._clock.now()
        for holder, allowance in allowances:
            if allowance.tokens_per_minute is not None:
                bucket = self._bucket(holder, "tokens", allowance.tokens_per_minute, now)
                bucket.take(used - taken, now)

    def _wanted(
        self, allowances: Allowances, tokens: int, requests: int, now: float
    ) -> list[tuple[_Bucket, int, str, str, int]]:
        found = []
        for holder, allowance in allowances:
            for unit, per_minute, amount in (
                ("requests", allowance.requests_per_minute, requests),
                ("tokens", allowance.tokens_per_minute, tokens),
            ):
                if per_minute is not None:
                    bucket = self._bucket(holder, unit, per_minute, now)
                    found.append((bucket, amount, unit, holder, per_minute))
        return found

    def _bucket(self, holder: str, unit: str, per_minute: int, now: float) -> _Bucket:
        bucket = self._buckets.get((holder, unit))
        if bucket is None:
            bucket = self._buckets[holder, unit] = _Bucket(per_minute, now)
        bucket.resize(per_minute)
        return bucket

    def _sweep(self, now: float) -> None:
        """Forget buckets that are as good as new, or memory would grow with every key there was."""
        self._until_sweep -= 1
        if self._until_sweep == 0:
            self._until_sweep = _SWEEP_EVERY
            full = [name for name, bucket in self._buckets.items() if bucket.is_full(now)]
            for name in full:
                del self._buckets[name]

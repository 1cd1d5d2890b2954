"""How a backend is, from what its answers show: a circuit breaker and moving averages. Does no I/O.

The breaker is that of Nygard, "Release It!" (2007), chapter 5: closed while all is well; open, and
asked nothing, after failures; half-open to try it with one request at a time. What is closed again
gets little at first (slow start), because caches and pools are cold then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from tokenworks.gateway.backend import Tier
from tokenworks.telemetry.clock import Clock

Phase = Literal["closed", "open", "half_open"]
Outcome = Literal["answered", "failed", "neutral"]
"""Of a request: `neutral` if it says nothing of the backend, as when the client left."""

SMOOTHING: Final = 0.2
"""How much the newest of a series weighs in its moving average: five or so are remembered."""

WARM_UP_SHARE: Final = 0.1
"""Of the requests that a backend would get, what it gets right after it recovered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """When to stop asking, for how long, and how to begin again."""

    consecutive: int = 5  # failures in a row that open it
    error_rate: float = 0.5  # failures among recent requests that open it
    least_requests: float = 10.0  # recent ones, below which the rate says nothing
    half_life_s: float = 15.0  # after which a request counts for half
    open_s: float = 1.0  # the first time; each further one twice as long
    most_open_s: float = 60.0
    successes: int = 2  # trials that close it again
    warm_up_s: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendState:
    """What a routing policy is told. Times are in seconds, None where none was measured.

    `share` of the requests it would otherwise get, from 0 to 1, is what it can take now.
    `retry_after_s` is set while it takes none. `age_s` says how old the newest measurement is.
    """

    name: str
    tier: Tier
    phase: Phase
    available: bool
    reason: str
    in_flight: int
    most_in_flight: int
    share: float
    error_rate: float
    first_token_s: float | None
    inter_token_s: float | None
    age_s: float | None
    retry_after_s: float | None
    draining: bool


class Health:
    """One backend's. `begin` and `end` surround each request; times come from the clock.

    `on_open` is called whenever the breaker opens.
    """

    def __init__(
        self,
        name: str,
        tier: Tier,
        most_in_flight: int,
        clock: Clock,
        settings: BreakerSettings | None = None,
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        self.draining = False
        self.in_flight = 0
        self._name, self._tier, self._most = name, tier, most_in_flight
        self._clock = clock
        self._settings = settings or BreakerSettings()
        self._on_open = on_open
        self._phase: Phase = "closed"
        self._reason = ""
        self._opened = self._until = 0.0  # open: since when, and until a trial is due
        self._tripped = False
        self._limited_until = 0.0  # it asked for a rest, or all of it is in use
        self._openings = 0  # since it was last well
        self._in_a_row = 0  # failures, or in half-open successes
        self._trial = False  # one is running
        self._warm_from: float | None = None  # closed again at this time
        self._recent, self._failed = 0.0, 0.0  # requests, each weighing less as it ages
        self._weighed_at = 0.0
        self._first_token_s: float | None = None
        self._inter_token_s: float | None = None
        self._measured_at: float | None = None

    @property
    def phase(self) -> Phase:
        return self._phase_at(self._clock.now())

    @property
    def full(self) -> bool:
        """Whether as many requests run as may."""
        return self.in_flight >= self._most

    def refusal(self) -> str:
        """Why it should be asked nothing now, in words; empty if it may be."""
        now = self._clock.now()
        if self.draining:
            return "it is being drained"
        phase = self._phase_at(now)
        if phase == "open":
            return self._reason
        if now < self._limited_until:
            return "it asked for a rest"
        if phase == "half_open" and self._trial:
            return "it is being tried with one request"
        return ""

    def begin(self) -> bool:
        """A request goes there. Whether it is a trial: `end` is told so."""
        self.in_flight += 1
        if self._phase_at(self._clock.now()) != "half_open":
            return False
        self._enter_half_open()
        self._trial = True
        return True

    def end(self, outcome: Outcome, *, trial: bool = False, reason: str = "") -> None:
        """A request is over. `reason` says what went wrong, if something did."""
        self.in_flight -= 1
        if trial:
            self._trial = False
        if outcome != "neutral":
            self.observe(outcome, reason)

    def observe(self, outcome: Outcome, reason: str = "") -> None:
        """Take a request's outcome, or a probe's, into account."""
        now = self._clock.now()
        self._weigh(now)
        self._recent += 1
        if outcome == "failed":
            self._failed += 1
            self._failure(now, reason)
        else:
            self._success(now)

    def probed(self, answers: bool, reason: str = "") -> None:
        """A cheap question was answered, or was not. A real request has yet to show more."""
        now = self._clock.now()
        if self._phase != "open" or self._tripped:
            return
        if answers:
            self._until = now
        elif not self._trial:
            self._open(now, reason)

    def probe_in_s(self) -> float | None:
        """When to ask a cheap question: half-way through the time that it is open; else None."""
        now = self._clock.now()
        if self._phase_at(now) != "open" or self._tripped:
            return None
        return max(0.0, (self._opened + self._until) / 2 - now)

    def trip(self, reason: str) -> None:
        """Open it at once, for as long as it is ever open: only a person can mend this."""
        self._openings = 64
        self._open(self._clock.now(), reason)
        self._tripped = True  # a cheap question may well be answered

    def rest(self, seconds: float) -> None:
        """It asked not to be asked for so long."""
        self._limited_until = max(self._limited_until, self._clock.now() + seconds)

    def measured(self, first_token_s: float, inter_token_s: float | None) -> None:
        """An answer's times: until its first token, and from each to the next on average."""
        self._first_token_s = _average(self._first_token_s, first_token_s)
        if inter_token_s is not None:
            self._inter_token_s = _average(self._inter_token_s, inter_token_s)
        self._measured_at = self._clock.now()

    def state(self) -> BackendState:
        now = self._clock.now()
        self._weigh(now)
        refusal = self.refusal()
        return BackendState(
            name=self._name,
            tier=self._tier,
            phase=self._phase_at(now),
            available=not refusal and not self.full,
            reason=refusal or ("as many requests run there as may" if self.full else ""),
            in_flight=self.in_flight,
            most_in_flight=self._most,
            share=0.0 if refusal else self._share(now),
            error_rate=self._failed / self._recent if self._recent > 0.5 else 0.0,
            first_token_s=self._first_token_s,
            inter_token_s=self._inter_token_s,
            age_s=None if self._measured_at is None else now - self._measured_at,
            retry_after_s=self._wait(now) if refusal else None,
            draining=self.draining,
        )

    def _phase_at(self, now: float) -> Phase:
        return "half_open" if self._phase == "open" and now >= self._until else self._phase

    def _enter_half_open(self) -> None:
        if self._phase == "open":
            self._phase, self._in_a_row = "half_open", 0

    def _wait(self, now: float) -> float:
        until = self._limited_until
        if self._phase == "open":
            until = max(until, self._until)
        return max(until - now, 0.0) or 1.0

    def _share(self, now: float) -> float:
        if self._phase != "closed":
            return WARM_UP_SHARE
        if self._warm_from is None:
            return 1.0
        passed = (now - self._warm_from) / self._settings.warm_up_s
        if passed >= 1:
            self._warm_from = None
            return 1.0
        return WARM_UP_SHARE + (1 - WARM_UP_SHARE) * passed

    def _success(self, now: float) -> None:
        if self._phase == "closed":
            self._in_a_row = 0
            return
        if self._phase_at(now) == "open":
            return  # of a request that began before: what opened it is newer
        self._enter_half_open()
        self._in_a_row += 1
        if self._in_a_row >= self._settings.successes:
            self._phase, self._reason, self._in_a_row = "closed", "", 0
            self._openings = 0
            self._recent = self._failed = 0.0
            self._warm_from = now

    def _failure(self, now: float, reason: str) -> None:
        phase = self._phase_at(now)
        if phase == "open":
            return
        if phase == "half_open":
            self._open(now, reason)
            return
        self._in_a_row += 1
        set_, rate = self._settings, self._failed / self._recent
        often = self._recent >= set_.least_requests and rate >= set_.error_rate
        if often or self._in_a_row >= set_.consecutive:
            self._open(now, reason)

    def _open(self, now: float, reason: str) -> None:
        wait = self._settings.open_s * 2.0 ** min(self._openings, 64)
        self._openings += 1
        self._phase, self._in_a_row = "open", 0
        self._opened, self._until = now, now + min(wait, self._settings.most_open_s)
        self._tripped = False
        self._reason = reason or "its last requests failed"
        self._warm_from = None
        self._on_open()

    def _weigh(self, now: float) -> None:
        """Let what was counted age."""
        passed, self._weighed_at = now - self._weighed_at, now
        if passed > 0:
            factor = 0.5 ** (passed / self._settings.half_life_s)
            self._recent *= factor
            self._failed *= factor


def _average(before: float | None, value: float) -> float:
    return value if before is None else before + SMOOTHING * (value - before)

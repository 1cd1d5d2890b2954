"""Periods of budgets: a day or a month of UTC, or all time."""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal, get_args

from tokenworks.errors import RequestError

Period = Literal["day", "month", "total"]
PERIODS: Final[tuple[Period, ...]] = get_args(Period)


def period_of(word: str, *, param: str | None = None) -> Period:
    """Raises RequestError naming the periods there are."""
    for period in PERIODS:
        if period == word:
            return period
    raise RequestError(f"{word[:40]!r} is no period; there are {', '.join(PERIODS)}", param=param)


def start_of(period: str, at: float) -> int:
    """When the period began in which `at` lies; both in seconds since 1970 UTC."""
    if period == "total":
        return 0
    moment = datetime.fromtimestamp(at, UTC)
    first = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return int((first.replace(day=1) if period == "month" else first).timestamp())


def end_of(period: str, at: float) -> int | None:
    """When the period ends in which `at` lies; None: never."""
    if period == "total":
        return None
    first = datetime.fromtimestamp(start_of(period, at), UTC)
    longest = timedelta(days=32 if period == "month" else 1)
    return start_of(period, (first + longest).timestamp())


def day_of(at: float) -> str:
    """`2026-11-28`, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")

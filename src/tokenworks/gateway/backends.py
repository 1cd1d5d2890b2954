"""All backends of a gateway: this machine's own, and those of the policies, which come and go."""

import asyncio
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from msgspec import json

from tokenworks.accounts.prices import PriceBook
from tokenworks.errors import ModelNotFound
from tokenworks.gateway.backend import Backend, BackendStatus
from tokenworks.gateway.placed import Placed, own, upstream
from tokenworks.gateway.upstream.backend import UpstreamBackend
from tokenworks.gateway.upstream.settings import UpstreamSettings
from tokenworks.telemetry.clock import Clock
from tokenworks.telemetry.facts import Traces

LOOK_SECONDS = 0.5
"""How often it is looked whether a backend that is gone from the policies is idle."""


class Backends:
    """Model ids compare case-insensitively; the first backend that has one names it.

    `environment` is where backends' keys are looked up; `traces` hear of what is asked elsewhere.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        environment: Mapping[str, str],
        clock: Clock,
        traces: Traces | None = None,
    ) -> None:
        self._own = tuple(own(backend) for backend in backends)
        self._environment, self._clock, self._traces = environment, clock, traces
        self._by_settings: dict[bytes, Placed] = {}
        self._book = PriceBook()
        self._closing: set[asyncio.Task[None]] = set()
        self._place()

    @property
    def all(self) -> tuple[Placed, ...]:
        return self._placed

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self._served.values())

    def resolve(self, model: str) -> str:
        """The served id that `model` means. Raises ModelNotFound naming what is served."""
        found = self._served.get(model.casefold())
        if found is None:
            model = model[:200]  # what is unknown can have any length
            near = get_close_matches(model.casefold(), self._served, n=1)
            guess = f"did you mean {self._served[near[0]]!r}? " if near else ""
            served = ", ".join(repr(name) for name in self.models)
            raise ModelNotFound(
                f"The model {model!r} is not served here", hint=f"{guess}served: {served}"
            )
        return found

    def statuses(self) -> dict[str, BackendStatus]:
        """What each model's first backend says of itself."""
        return {
            name: next(one for one in self._placed if one.serves(name)).backend.status()
            for name in self.models
        }

    def described(self) -> list[dict[str, Any]]:
        """As an administrator wants to see them."""
        return [
            {
                "name": one.name,
                "tier": one.tier,
                "clearance": one.clearance.word,
                "models": list(one.backend.models),
                "abilities": sorted(one.abilities),
                "region": one.region,
                "context_length": one.length() or None,
                "state": one.backend.status().state,
                "reason": one.state().reason,
                "details": one.backend.status().details,
            }
            for one in self._placed
        ]

    def drain(self, name: str, wanted: bool) -> bool:
        """Ask a backend nothing more, or again. False if there is none, or it cannot be drained."""
        for one in self._placed:
            if one.name == name and isinstance(one.backend, UpstreamBackend):
                one.backend.drain(wanted)
                return True
        return False

    async def start(self) -> None:
        """Return once our own answer. Raises EngineError if one cannot."""
        await asyncio.gather(*(one.backend.start() for one in self._own))

    async def close(self) -> None:
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*(one.backend.close() for one in self._placed))

    async def use(self, wanted: Sequence[UpstreamSettings]) -> None:
        """Have these beside our own. Those that are there already go on, with all that is known of
        them; the others end once nothing runs there.

        Raises ConfigError for a key or a certificate that cannot be read; nothing is changed then.
        """
        known = dict(self._by_settings)
        new: dict[bytes, Placed] = {}
        try:
            for settings in wanted:
                written = json.encode(settings)
                new[written] = known.get(written) or await self._started(settings)
        except BaseException:
            made = [one for written, one in new.items() if written not in known]
            await asyncio.gather(*(one.backend.close() for one in made))
            raise
        self._by_settings = new
        self._place()
        for written, gone in known.items():
            if written not in new:
                task = asyncio.create_task(_close_when_idle(gone), name=f"closing {gone.name}")
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    async def _started(self, settings: UpstreamSettings) -> Placed:
        backend = UpstreamBackend(
            settings, environment=self._environment, clock=self._clock, traces=self._traces
        )
        await backend.start()
        return upstream(backend, self._book)

    def _place(self) -> None:
        self._placed = (*self._own, *self._by_settings.values())
        self._served: dict[str, str] = {}
        for one in self._placed:
            for model in one.backend.models:
                self._served.setdefault(model.casefold(), model)


async def _close_when_idle(placed: Placed) -> None:
    """What runs there goes on to its end."""
    try:
        while placed.state().in_flight:
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await placed.backend.close()

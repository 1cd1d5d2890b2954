"""Routing, measuring and draining, with scripted backends on a manual clock."""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tokenworks.errors import ConfigError, EngineError, LabelError, ModelNotFound
from tokenworks.gateway.backend import Completion
from tokenworks.gateway.gateway import Gateway
from tokenworks.gateway.labelling import Labelled, Labeller
from tokenworks.gateway.labels import Label
from tokenworks.gateway.placed import Placed, own
from tokenworks.gateway.planning import Planner
from tokenworks.gateway.policies import LabelPolicy, Policies, PolicyFile
from tokenworks.gateway.scripted import ScriptedBackend
from tokenworks.telemetry.clock import ManualClock
from tokenworks.telemetry.metrics import Metrics

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def gateway_of(*backends: ScriptedBackend, metrics: Metrics | None = None) -> Gateway:
    return Gateway(backends, metrics or Metrics(), ManualClock())


def ask(model: str = "scripted") -> Completion:
    return Completion(request_id="r", model=model, prompt="x")


def test_a_request_goes_to_the_backend_that_has_its_model() -> None:
    one, two = ScriptedBackend(model="One"), ScriptedBackend(model="two")
    gateway = gateway_of(one, two)

    async def main() -> None:
        async for _ in gateway.stream(ask("ONE")):
            pass

    run(main())

    assert (one.completed, two.completed) == (1, 0)
    assert gateway.resolve("TWO") == "two"


def test_an_unknown_model_is_named_with_those_served() -> None:
    gateway = gateway_of(ScriptedBackend(model="alpha"), ScriptedBackend(model="beta"))

    with pytest.raises(ModelNotFound, match="'gamma'") as unknown:
        gateway.resolve("gamma")

    assert unknown.value.hint is not None
    assert "'alpha', 'beta'" in unknown.value.hint


def test_tokens_of_answers_cut_short_are_counted_too() -> None:
    metrics = Metrics()
    gateway = gateway_of(ScriptedBackend(("a", "b", "c")), metrics=metrics)

    async def main() -> None:
        async with aclosing(gateway.stream(ask())) as chunks:
            await anext(chunks)
            await anext(chunks)

            assert gateway.running == 1

    run(main())

    assert gateway.running == 0
    assert b'tokenworks_completion_tokens_total{model="scripted"} 2.0' in metrics.exposition({})


def test_draining_waits_for_what_runs_and_refuses_what_comes() -> None:
    backend = ScriptedBackend(("a", "b"), delay_s=0.02)
    gateway = gateway_of(backend)

    async def main() -> None:
        async with aclosing(gateway.stream(ask())) as chunks:
            await anext(chunks)

            assert not await gateway.drain(0.01)
            with pytest.raises(EngineError, match="shutting down"):
                await anext(gateway.stream(ask()))
            waiting = asyncio.create_task(gateway.drain(10))
            async for _ in chunks:
                pass
        assert await waiting

    run(main())

    assert backend.completed == 1


def test_draining_waits_for_what_is_still_being_looked_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looking = asyncio.Event()
    label = Labeller.label

    async def slowly(self: Labeller, *given: Any) -> Labelled:
        looking.set()
        await asyncio.sleep(0.05)
        return await label(self, *given)

    monkeypatch.setattr(Labeller, "label", slowly)
    gateway = gateway_of(ScriptedBackend())

    async def main() -> None:
        admitted = asyncio.create_task(gateway.admit(ask()))
        await looking.wait()
        assert not await gateway.drain(0.01)
        await admitted

    run(main())


def test_labels_are_judged_by_the_backends_that_went_with_their_policies() -> None:
    shut = replace(own(ScriptedBackend()), clearance=Label.PUBLIC)
    placed: list[tuple[Placed, ...]] = [(shut,)]

    class Reloaded(Labeller):
        async def label(self, *given: Any) -> Labelled:
            placed.append((replace(shut, clearance=Label.SECRET),))  # other policies hold now
            return await super().label(*given)

    planner = Planner(lambda: placed[-1], Reloaded(), lambda: 0.0)
    with pytest.raises(LabelError):
        run(planner.plan(ask(), None, (), Policies()))


def test_policies_hold_only_once_their_backends_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "policies.toml"
    path.write_text("")
    file = PolicyFile(path)
    gateway = Gateway([ScriptedBackend()], Metrics(), ManualClock(), policies=file)
    before = file.current
    path.write_text('[labels]\ndefault = "public"\n')

    async def unusable(wanted: object) -> None:
        await asyncio.sleep(0)
        assert file.current is before
        raise ConfigError("no such key")

    monkeypatch.setattr(gateway.backends, "use", unusable)
    with pytest.raises(ConfigError, match="no such key"):
        run(gateway.reload())
    assert file.current is before
    assert file.problem == "no such key"


def test_the_record_says_how_much_was_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ScriptedBackend()
    gateway = gateway_of(backend)
    far = replace(own(backend), clearance=Label.INTERNAL)
    monkeypatch.setattr(gateway.backends, "_placed", (far,))
    gateway.policies.current = Policies(labels=LabelPolicy(mask=("email",)))
    two = "Write to ada@example.org and bert@example.org, and to ada@example.org again."

    async def main() -> None:
        async for _ in gateway.stream(replace(ask(), prompt=two)):
            pass

    run(main())
    assert [one.masked for one in gateway.recent.newest(1)] == [2]

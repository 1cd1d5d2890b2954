"""Deadlines, refusals at load, and short waits beside long prompts: the engine on a made-up machine
whose rows take a millisecond each."""

from typing import Any

from batching import ROW_S, TimedExecutor
from tokenworks.inference.engine import Engine
from tokenworks.inference.messages import Generate, Refused, Sampling, Sibling, Step
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.clock import ManualClock


def prompt_of(name: str, length: int) -> list[int]:
    """So many tokens, like those of no other name."""
    return ([letter % 97 for letter in name.encode()] + list(range(97)) * 60)[:length]


class Machine:
    """An engine, what it answered, and when each first token came."""

    def __init__(self, **changes: Any) -> None:
        values = {"model_path": "", "model_id": "m", "max_sequences": 4, "stall_ms": 30}
        self.clock = ManualClock()
        self.executor = TimedExecutor(self.clock)
        self.engine = Engine(self.executor, EngineSettings(**{**values, **changes}), self.clock)
        self.first: dict[str, float] = {}
        self.failed: dict[str, str] = {}
        self.ended: list[str] = []

    def ask(self, name: str, prompt: int, max_tokens: int = 4, **more: Any) -> Refused | None:
        """A prompt of so many tokens like no other's."""
        return self.engine.submit(
            Generate(
                request_id=name,
                prompt=prompt_of(name, prompt),
                sampling=Sampling(max_tokens=max_tokens),
                **more,
            )
        )

    def step(self) -> Step | None:
        step = self.engine.step()
        self.engine.check_integrity()
        for token in step.tokens if step else ():
            self.first.setdefault(token.request_id, self.clock.now())
            if token.finish_reason:
                self.ended.append(token.request_id)
        for failed in step.failed if step else ():
            self.failed[failed.request_id] = failed.reason
        return step

    def drain(self) -> None:
        while self.step():
            pass
        assert self.engine.step() is None

    def learn(self) -> None:
        """Answers of four tokens end, so that speeds and lengths are known."""
        for number in range(12):
            self.ask(f"learn{number}", 1 + 20 * number)
        self.drain()
        self.ended.clear()


def test_a_short_question_does_not_wait_for_a_long_prompt() -> None:
    machine = Machine()
    machine.learn()
    machine.ask("chat", 10, max_tokens=2000)
    machine.step()
    machine.ask("long", 3000)
    for _ in range(3):
        machine.step()
    began = machine.clock.now()
    machine.ask("short", 20)
    while "short" not in machine.first:
        machine.step()

    assert machine.first["short"] - began < 0.1
    assert "long" not in machine.first


def test_no_forward_beside_answers_takes_longer_than_the_target() -> None:
    machine = Machine()
    machine.learn()
    machine.ask("chat", 10, max_tokens=2000)
    machine.step()
    machine.executor.batches.clear()
    machine.ask("long", 3000, max_tokens=1)
    while "long" not in machine.first:
        machine.step()

    assert max(machine.executor.batches) * ROW_S <= 0.03 * 1.1
    assert min(machine.executor.batches[:-1]) >= 16, "the prompt got on slowly"


def test_a_deadline_that_can_be_met_is_met() -> None:
    machine = Machine(max_sequences=1)
    machine.learn()
    for number in range(5):
        assert machine.ask(f"other{number}", 200) is None
    machine.step()

    assert machine.ask("urgent", 100, deadline_s=0.9) is None
    machine.drain()

    assert not machine.failed
    assert machine.ended[:2] == ["other0", "urgent"]


def test_a_deadline_that_cannot_be_met_is_refused_at_once_with_numbers() -> None:
    machine = Machine()
    machine.learn()

    refused = machine.ask("urgent", 1000, deadline_s=0.5)

    assert refused is not None
    assert refused.reason == "deadline"
    assert refused.message.startswith("the first token would come in about 1.0 s")
    assert refused.message.endswith("after the deadline of 0.5 s")
    assert refused.retry_after_s is not None
    assert machine.engine.step() is None


def test_what_is_known_of_a_prompt_counts_for_its_deadline() -> None:
    machine = Machine()
    machine.learn()
    machine.ask("first", 1000)
    machine.drain()
    again = Generate(
        request_id="again",
        prompt=prompt_of("first", 1000),
        sampling=Sampling(max_tokens=1),
        deadline_s=0.5,
    )

    assert machine.engine.submit(again) is None
    machine.drain()

    assert "again" in machine.first


def test_a_request_whose_deadline_passes_while_it_waits_fails_and_is_not_computed() -> None:
    machine = Machine(max_sequences=1)
    machine.ask("other", 20, max_tokens=2000)  # nobody knows yet how long answers become
    machine.step()
    machine.executor.batches.clear()
    assert machine.ask("urgent", 20, deadline_s=0.5) is None
    while "urgent" not in machine.failed:
        machine.step()

    assert machine.failed == {"urgent": "deadline"}
    assert 0.5 < machine.clock.now() < 0.6
    assert set(machine.executor.batches) == {1}


def test_a_request_that_becomes_hopeless_while_it_is_computed_is_given_up() -> None:
    machine = Machine()
    machine.learn()
    machine.ask("urgent", 2000, deadline_s=2.2)
    machine.step()
    computed = sum(machine.executor.batches)
    machine.clock.advance(1.0)
    machine.drain()

    assert machine.failed == {"urgent": "deadline"}
    assert sum(machine.executor.batches) == computed
    assert machine.clock.now() < 2.2 + machine.executor.batches[0]


def test_an_answer_that_was_begun_has_no_deadline() -> None:
    machine = Machine()
    machine.learn()

    assert machine.ask("resumed", 1000, generated=[5], deadline_s=0.001) is None
    machine.drain()

    assert "resumed" in machine.ended


def test_siblings_have_the_first_ones_deadline_and_none_of_their_own() -> None:
    machine = Machine(max_sequences=1)
    machine.learn()
    siblings = [Sibling(request_id="second", seed=1)]

    machine.ask("first", 50, max_tokens=400, deadline_s=0.3, siblings=siblings)
    machine.drain()

    assert not machine.failed
    assert machine.ended[-2:] == ["first", "second"]


def test_who_would_wait_too_long_is_refused_until_it_is_less() -> None:
    machine = Machine(max_sequences=1, wait_limit_s=1)
    machine.learn()
    assert machine.ask("a", 600) is None
    assert machine.ask("b", 300) is None

    refused = machine.ask("c", 600)

    assert refused is not None
    assert refused.reason == "queue_full"
    assert "nobody is let in to wait more than 1 s" in refused.message
    machine.drain()
    assert machine.ask("c", 600) is None


def test_how_long_answers_became_tells_how_long_one_waits_for_a_place() -> None:
    machine = Machine(max_sequences=1, wait_limit_s=1)
    for number in range(3):
        machine.ask(f"long{number}", 5, max_tokens=800)
    machine.drain()
    assert machine.ask("a", 5) is None
    machine.step()

    assert machine.ask("b", 5) is None
    assert machine.ask("c", 5) is not None  # two answers of 800 tokens come before


def test_how_long_others_queue_is_nothing_to_a_tenant_without_one() -> None:
    machine = Machine(max_sequences=1, wait_limit_s=1)
    machine.learn()
    for number in range(2):
        assert machine.ask(f"many{number}", 400, tenant="many") is None

    assert machine.ask("more", 400, tenant="many") is not None
    assert machine.ask("few", 400, tenant="few") is None


def test_a_tenant_that_fills_the_queue_does_not_lock_others_out() -> None:
    machine = Machine(max_sequences=1, queue_limit=7)
    for number in range(8):
        assert machine.ask(f"many{number}", 10, tenant="many") is None

    more = machine.ask("more", 10, tenant="many")
    assert more is not None
    assert more.reason == "queue_full"
    for number in range(4):
        assert machine.ask(f"few{number}", 10, tenant="few") is None
    assert machine.ask("few4", 10, tenant="few") is not None
    machine.drain()
    assert machine.ended.index("few0") < 3


def test_a_priority_or_deadline_out_of_range_is_invalid() -> None:
    machine = Machine()
    for wrong in ({"priority": 11}, {"priority": -11}, {"deadline_s": 0.0}, {"deadline_s": -1.0}):
        refused = machine.ask("a", 10, **wrong)
        assert refused is not None
        assert refused.reason == "invalid"
        assert next(iter(wrong)) in refused.message

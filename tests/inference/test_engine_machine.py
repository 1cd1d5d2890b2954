"""Random arrivals, cancellations, priorities, deadlines, tenants and pauses: after each step every
page is where it should be; in the end each request was answered, refused, cancelled or late.
"""

import os

import msgspec
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from batching import TimedExecutor
from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.scripted import scripted_logits
from tokenworks.inference.messages import Generate, Sampling, Sibling
from tokenworks.inference.sampler import sample
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.clock import ManualClock

SOAK = os.environ.get("TOKENWORKS_SOAK") == "1"
PAGES = 8
STEPS_TO_END = 3000


def expected(request: Generate) -> list[int]:
    """The answer, computed without any engine."""
    tokens = list(request.prompt)
    for index in range(request.sampling.max_tokens):
        logits = scripted_logits(np.array(tokens, np.int32), 97)
        tokens.append(sample(logits, request.sampling, index).token)
    return tokens[len(request.prompt) :]


class EngineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        executor = TimedExecutor(self.clock, context_length=512)
        executor.page_bytes = 2**20 // PAGES
        given = EngineSettings(
            model_path="",
            model_id="m",
            max_sequences=5,
            max_batch_tokens=24,
            queue_limit=15,
            stall_ms=12,
            kv_memory_mb=1,
        )
        self.engine = Engine(executor, given, self.clock)
        self.open: dict[str, Generate] = {}
        self.answers: dict[str, list[int]] = {}
        self.came = 0

    @rule(
        kind=st.integers(0, 2),
        length=st.integers(1, 50),
        max_tokens=st.integers(1, 50),
        tenant=st.sampled_from(["", "a", "b"]),
        priority=st.integers(-10, 10),
        deadline_s=st.none() | st.floats(0.001, 0.5),
        siblings=st.integers(0, 2),
    )
    def ask(
        self,
        kind: int,
        length: int,
        max_tokens: int,
        tenant: str,
        priority: int,
        deadline_s: float | None,
        siblings: int,
    ) -> None:
        self.came += 1
        request = Generate(
            request_id=f"{self.came}.0",
            prompt=[1] * 16 + [kind] * length,
            sampling=Sampling(max_tokens=max_tokens, seed=3),
            siblings=[Sibling(request_id=f"{self.came}.{n + 1}", seed=3) for n in range(siblings)],
            tenant=tenant,
            priority=priority,
            deadline_s=deadline_s,
        )
        refused = self.engine.submit(request)
        if refused is None:
            for number in range(siblings + 1):
                name = f"{self.came}.{number}"
                without = None if number else deadline_s
                self.open[name] = msgspec.structs.replace(request, deadline_s=without)
        elif refused.reason == "deadline":
            assert deadline_s is not None
        else:
            assert refused.reason == "queue_full"
            assert len(self.open) + siblings + 1 > 5
            assert refused.retry_after_s is not None

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.open)))
        self.engine.cancel(name)
        del self.open[name]
        self.answers.pop(name, None)

    @rule(seconds=st.floats(0, 0.5))
    def pause(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(steps=st.integers(1, 10))
    def work(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def step(self) -> bool:
        step = self.engine.step()
        if step is None:
            return False
        for failed in step.failed:
            assert failed.reason == "deadline"
            assert self.open.pop(failed.request_id).deadline_s is not None
            assert failed.request_id not in self.answers, "it failed after its first token"
        for token in step.tokens:
            answer = self.answers.setdefault(token.request_id, [])
            answer.append(token.token)
            if token.finish_reason:
                assert answer == expected(self.open.pop(token.request_id))
                del self.answers[token.request_id]
        return True

    @invariant()
    def every_page_is_where_it_should_be(self) -> None:
        self.engine.check_integrity()

    def teardown(self) -> None:
        for _ in range(STEPS_TO_END):
            if not self.step():
                break
            self.engine.check_integrity()
        assert self.open == {}, "a request is stuck"
        step = self.engine.step()
        assert step is None


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(
    max_examples=400 if SOAK else 40, stateful_step_count=40, deadline=None
)

"""Engines that guess, on executors that take the same time for every forward."""

from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.base import Batch, Executor
from tokenworks.inference.executors.scripted import ScriptedExecutor
from tokenworks.inference.messages import Generate, Sampling, Token
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.clock import ManualClock

VOCABULARY = 23
SAMPLING = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.7, 1.3]),
        "top_p": st.sampled_from([1.0, 0.8]),
        "seed": st.integers(0, 1000),
        "max_tokens": st.integers(1, 70),
        "stop_tokens": st.sampled_from([(), (3,), (1, 2)]),
        "logprobs": st.sampled_from([None, 2]),
        "frequency_penalty": st.sampled_from([0.0, 0.5]),
        "min_tokens": st.sampled_from([0, 1]),
    }
)


class TimedExecutor:
    """Every forward takes the same on the clock, so that each draft seems worth its rows."""

    def __init__(self, executor: Executor, clock: ManualClock, seconds: float = 0.01) -> None:
        self._executor, self._clock, self._seconds = executor, clock, seconds
        self.forwards = self.rows = self.most_logits = 0
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        self._clock.advance(self._seconds)
        self.forwards += 1
        self.rows += len(batch.tokens)
        self.most_logits = max(self.most_logits, len(batch.logit_rows))
        return self._executor.forward(batch)


class FewWords(ScriptedExecutor):
    """Logits follow from the last two tokens, so that texts repeat themselves."""

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        super().forward(batch)
        row, logits = 0, []
        for span in batch.spans:
            held = self._store[span.pages].ravel()
            for wanted in batch.logit_rows[batch.logit_rows >= row]:
                if wanted < row + span.length:
                    end = span.start + wanted - row + 1
                    last = held[max(0, end - 2) : end]
                    seed = int(last[-1]) * VOCABULARY + int(last[0])
                    drawn = np.random.default_rng(seed).standard_normal(VOCABULARY, np.float32)
                    logits.append(drawn * np.float32(4.0))
            row += span.length
        return np.array(logits, np.float32).reshape(-1, VOCABULARY)


def run(
    executor: Executor,
    requests: list[Generate],
    speculation: str,
    draft: Executor | None = None,
    draft_s: float = 0.001,
    **changes: Any,
) -> tuple[dict[str, list[Token]], TimedExecutor]:
    """All answers, and what was computed for them. A forward of the draft model takes `draft_s`."""
    clock = ManualClock()
    timed = TimedExecutor(executor, clock)
    values = {"model_path": "", "model_id": "m", "max_sequences": 4, "max_batch_tokens": 64}
    settings = EngineSettings(**{**values, **changes, "speculation": speculation})
    guessing = draft and TimedExecutor(draft, clock, draft_s)
    engine = Engine(timed, settings, clock, draft=guessing)
    received: dict[str, list[Token]] = {request.request_id: [] for request in requests}
    for request in requests:
        assert engine.submit(request) is None
    while step := engine.step():
        engine.check_integrity()
        assert not step.failed
        for token in step.tokens:
            # What is found in the cache follows from who began when, which guesses change.
            received[token.request_id].append(msgspec.structs.replace(token, cached_tokens=None))
    timed.seconds = clock.now()
    return received, timed


def few_words() -> FewWords:
    return FewWords(vocabulary_size=VOCABULARY)


def asked(name: str, prompt: list[int], **sampling: Any) -> Generate:
    return Generate(
        request_id=name, prompt=prompt, sampling=Sampling(**{"max_tokens": 60, **sampling})
    )

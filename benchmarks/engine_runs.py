"""Our side of the inference benchmark: the engine as a worker runs it, in this process."""

import statistics
import time
from pathlib import Path

import numpy as np

from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.base import PAGE_TOKENS, Batch, Span
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.messages import Generate, Sampling
from tokenworks.inference.models.kv_format import KvFormat
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.rounding import NO_ROUNDING, Rounding
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.clock import MonotonicClock

PROMPT = 512
_STEPS = 200
_FEWEST_STEPS, _SECONDS = 7, 2.0
_FEW_ROWS = 16
_CONTEXT = 48


class Ours:
    """One engine on one model file. Figures are tokens per second unless they say otherwise."""

    def __init__(
        self,
        path: Path,
        threads: int,
        isa: str = "auto",
        rounding: Rounding = NO_ROUNDING,
        kv_format: KvFormat = "bf16",
    ) -> None:
        settings = EngineSettings(
            model_path=str(path),
            model_id="bench",
            threads=threads,
            max_batch_tokens=PROMPT,
            # Kernels are compared: no peer guesses, nor keeps prompts back for whoever reads.
            speculation="off",
            stall_ms=0,
        )
        executor = NativeExecutor(
            load_model(path),
            isa=isa,
            threads=threads,
            context_length=0,
            rounding=rounding,
            kv_format=kv_format,
        )
        self.description = executor.description
        self.weight_bytes = executor.weight_bytes
        self._page_bytes = executor.page_bytes
        self._executor = executor
        self._vocabulary = executor.vocabulary_size
        self._engine = Engine(executor, settings, MonotonicClock())
        self._random = np.random.default_rng(0)
        self._count = 0

    def decode_tps(self, tokens: int, context: int = 0) -> float:
        """One sequence, after a prompt of so many tokens (but 1)."""
        return self._answer_tps(1, max(1, context), tokens)

    def batch_tps(self, sequences: int, prompt: int, tokens: int) -> float:
        return self._answer_tps(sequences, prompt, tokens)

    def prefill_tps(self, tokens: int = PROMPT) -> float:
        self._submit(tokens, 1)
        start = time.perf_counter()
        self._finish()
        return tokens / (time.perf_counter() - start)

    def forward_s(self, rows: int) -> float:
        """Median seconds of a forward of so many rows of one sequence; as when drafts are verified,
        all of them with logits, if there are few, else the last alone, as of a prompt."""
        wanted = np.arange(rows) if rows <= _FEW_ROWS else np.array([rows - 1])
        pages = np.arange(-(-(_CONTEXT + rows) // PAGE_TOKENS), dtype=np.int32)
        batch = Batch(
            tokens=np.arange(rows, dtype=np.int32) + 5,
            spans=(Span(start=_CONTEXT, length=rows, pages=pages),),
            logit_rows=wanted.astype(np.int32),
        )
        return self._median_s(lambda: self._executor.forward(batch))

    def decode_step_s(self) -> tuple[float, float]:
        """Median seconds of an engine step that decodes one sequence, and of its forward alone."""
        forward, times = self._executor.forward, []

        def timed(batch: Batch) -> np.ndarray:
            start = time.perf_counter()
            logits = forward(batch)
            times.append(time.perf_counter() - start)
            return logits

        self._submit(1, _STEPS + 2)
        self._engine.step()
        self._executor.forward = timed  # type: ignore[method-assign]
        step = self._median_s(self._engine.step)
        self._executor.forward = forward  # type: ignore[method-assign]
        self._finish()
        return step, statistics.median(times)

    def read_bytes(self, context: int) -> int:
        """Bytes of weights and KV that a token reads with so many tokens before it."""
        return self.weight_bytes + self._page_bytes // PAGE_TOKENS * context

    def _answer_tps(self, sequences: int, prompt: int, tokens: int) -> float:
        """Output tokens per second of all, once every prompt is computed."""
        for _ in range(sequences):
            self._submit(prompt, tokens + 1)
        started: set[str] = set()
        while len(started) < sequences:
            step = self._engine.step()
            started |= {token.request_id for token in step.tokens} if step else set()
        start = time.perf_counter()
        produced = self._finish()
        return produced / (time.perf_counter() - start)

    def _submit(self, prompt: int, max_tokens: int) -> None:
        self._count += 1
        refused = self._engine.submit(
            Generate(
                request_id=str(self._count),
                prompt=self._random.integers(0, self._vocabulary, prompt).tolist(),
                sampling=Sampling(max_tokens=max_tokens, temperature=0.0),
            )
        )
        assert refused is None, refused

    def _finish(self) -> int:
        produced = 0
        while step := self._engine.step():
            produced += len(step.tokens)
        return produced

    @staticmethod
    def _median_s(work: object) -> float:
        times: list[float] = []
        deadline = time.perf_counter() + _SECONDS
        while len(times) < _STEPS:
            start = time.perf_counter()
            if len(times) >= _FEWEST_STEPS and start > deadline:
                break
            work()  # type: ignore[operator]
            times.append(time.perf_counter() - start)
        return statistics.median(times)

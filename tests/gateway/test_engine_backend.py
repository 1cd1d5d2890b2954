"""The engine backend with real worker processes, which are killed as the test pleases."""

import asyncio
import os
import random
import signal
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends import answer, backend_of, completion, run, text, worker_pid
from tokenworks.errors import ContextLengthError, EngineError, QueueFullError, RequestError
from tokenworks.gateway.backend import Chunk, Completion
from tokenworks.gateway.engine import EngineBackend
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.models.rounding import NO_ROUNDING, Rounding
from tokenworks.inference.text.tiny_vocabulary import CONTROL, tiny_vocabulary


def test_an_answer_is_a_function_of_prompt_sampling_and_seed(tiny_model: Path) -> None:
    async def main() -> None:
        async with backend_of(tiny_model) as backend:
            first = await answer(backend, completion(1))
            again = await answer(backend, completion(1))
            other = await answer(backend, completion(1, seed=2))

        assert text(first) == text(again)
        assert text(first) != text(other)

        assert [chunk.finish_reason for chunk in first[:-1]] == [None] * (len(first) - 1)
        assert first[-1].finish_reason == "length"
        assert first[-1].usage is not None
        assert first[-1].usage.completion_tokens == sum(chunk.tokens for chunk in first) == 40

    run(main())


def test_killing_the_engine_at_random_points_loses_no_token_and_repeats_none(
    tiny_model: Path,
) -> None:
    draw = random.Random(7)
    requests = [completion(n, max_tokens=draw.randint(60, 160)) for n in range(50)]

    async def main() -> None:
        # An engine of its own: one that has heard the answers before gives them in a few forwards.
        async with backend_of(tiny_model, speculation="off") as backend:
            undisturbed = await asyncio.gather(*(answer(backend, r) for r in requests))
        tokens = sum(chunk.tokens for chunks in undisturbed for chunk in chunks)
        async with backend_of(tiny_model) as backend:
            killer = Killer(backend, [draw.uniform(0, 0.8) * tokens for _ in range(5)])
            disturbed = await asyncio.gather(*(killer.answer(r) for r in requests))
            restarts = backend.status().details["restarts"]

        assert restarts == len(killer.killed) == 5
        assert [text(chunks) for chunks in disturbed] == [text(chunks) for chunks in undisturbed]
        assert list(map(completion_tokens, disturbed)) == list(map(completion_tokens, undisturbed))

    run(main())


def test_an_engine_that_is_started_again_goes_on_with_the_same_rounded_weights(
    tiny_model: Path,
) -> None:
    requests = [completion(n, max_tokens=80, logprobs=1) for n in range(6)]

    async def answers(rounding: Rounding, *points: float) -> tuple[list[list[Chunk]], str]:
        changes: dict[str, Any] = {"executor": "native", "isa": "portable", "rounding": rounding}
        async with backend_of(tiny_model, **changes) as backend:
            killer = Killer(backend, list(points))
            found = await asyncio.gather(*(killer.answer(r) for r in requests))
            assert len(killer.killed) == len(points)
            return found, str(backend.status().details.get("executor"))

    async def main() -> None:
        rounding = Rounding({"output": "q4", "down": "q6"}, (2, -1) * 32)
        undisturbed, executor = await answers(rounding)
        disturbed, _ = await answers(rounding, 100, 250)
        plain, _ = await answers(NO_ROUNDING)

        def logprobs(found: list[list[Chunk]]) -> list[Any]:
            return [token for chunks in found for chunk in chunks for token in chunk.logprobs]

        assert executor == "native portable, 1 thread, down in 6 bits, output in 4 bits"
        assert list(map(text, disturbed)) == list(map(text, undisturbed))
        assert logprobs(disturbed) == logprobs(undisturbed) != logprobs(plain)

    run(main())


def test_killing_the_engine_changes_nothing_of_several_penalised_answers(tiny_model: Path) -> None:
    asked: dict[str, Any] = {
        "n": 3,
        "echo": True,
        "logprobs": 2,
        "presence_penalty": 1.5,
        "frequency_penalty": 0.5,
        "repetition_penalty": 1.2,
        "logit_bias": ((70, 3.0),),
        "min_tokens": 30,
    }
    requests = [completion(n, max_tokens=40, **asked) for n in range(4)]

    async def main() -> None:
        async with backend_of(tiny_model) as backend:
            undisturbed = await asyncio.gather(*(answer(backend, r) for r in requests))
            tokens = sum(chunk.tokens for chunks in undisturbed for chunk in chunks)
            killer = Killer(backend, [share * tokens for share in (0.0, 0.5)])
            disturbed = await asyncio.gather(*(killer.answer(r) for r in requests))

        assert len(killer.killed) == 2
        for before, after in zip(undisturbed, disturbed, strict=True):
            for index in range(3):
                mine = [[c for c in chunks if c.index == index] for chunks in (before, after)]
                assert text(mine[0]) == text(mine[1])
                logprobs = [[t for c in chunks for t in c.logprobs] for chunks in mine]
                assert logprobs[0] == logprobs[1]
            assert completion_tokens(before) == completion_tokens(after) >= 90

    run(main())


def test_no_more_requests_wait_for_a_restart_than_the_engine_could_queue(
    tiny_model: Path,
) -> None:
    async def main() -> None:
        async with backend_of(tiny_model, max_sequences=1, queue_limit=1) as backend:
            pid = worker_pid(backend)
            assert pid
            os.kill(pid, signal.SIGKILL)
            while backend.status().state == "ready":
                await asyncio.sleep(0)
            first, second = (asyncio.create_task(answer(backend, completion(n))) for n in (1, 2))
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError) as refused:
                await answer(backend, completion(3))

            assert refused.value.retry_after_s >= 1
            for chunks in (await first, await second, await answer(backend, completion(3))):
                assert chunks[-1].finish_reason

    run(main())


class Killer:
    """Kills the engine each time its streams, all together, have given so many tokens."""

    def __init__(self, backend: EngineBackend, points: list[float]) -> None:
        self.killed: set[int] = set()
        self._backend = backend
        self._points = sorted(points)
        self._tokens = 0

    async def answer(self, request: Completion) -> list[Chunk]:
        chunks = []
        async for chunk in self._backend.stream(request):
            chunks.append(chunk)
            self._tokens += chunk.tokens
            self._kill_if_due()
        return chunks

    def _kill_if_due(self) -> None:
        pid = worker_pid(self._backend)
        # Tokens that a dead engine left behind may reach the next point: that waits for a new one.
        if self._points and self._tokens >= self._points[0] and pid and pid not in self.killed:
            os.kill(pid, signal.SIGKILL)
            self.killed.add(pid)
            del self._points[0]


def completion_tokens(chunks: list[Chunk]) -> int:
    usage = chunks[-1].usage
    assert usage is not None
    return usage.completion_tokens


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(tiny_model: Path) -> None:
    async def main() -> None:
        async with backend_of(tiny_model) as backend:
            whole = text(await answer(backend, completion(3)))
            stop = whole[10:13]
            cut = await answer(backend, completion(3, stop=(stop,)))

        assert text(cut) == whole[: whole.index(stop)]
        assert cut[-1].finish_reason == "stop"

    run(main())


def test_logprobs_come_with_the_text_of_their_tokens(tiny_model: Path) -> None:
    async def main() -> None:
        async with backend_of(tiny_model) as backend:
            chunks = await answer(backend, completion(4, logprobs=3, max_tokens=12))
        tokens = [token for chunk in chunks for token in chunk.logprobs]

        assert len(tokens) == 12
        assert b"".join(t.raw for t in tokens).decode("utf-8", "replace") == text(chunks)
        assert all(token.logprob <= 0 for token in tokens)
        assert all(len(token.alternatives) == 3 for token in tokens)

    run(main())


def test_max_tokens_defaults_to_what_the_context_leaves(tiny_model: Path) -> None:
    async def main() -> None:
        async with backend_of(tiny_model, context_length=64) as backend:
            never_ends = tuple((token, -100.0) for token in range(len(CONTROL)))
            wanted = completion(5, max_tokens=None, logit_bias=never_ends)
            chunks = await answer(backend, wanted)
        usage = chunks[-1].usage

        assert usage is not None
        assert chunks[-1].finish_reason == "length"
        assert usage.prompt_tokens + usage.completion_tokens == 64

    run(main())


def test_too_long_a_request_is_refused_with_the_numbers(tiny_model: Path) -> None:
    async def main() -> None:
        async with backend_of(tiny_model, context_length=64) as backend:
            with pytest.raises(ContextLengthError, match="64") as too_many:
                await answer(backend, completion(max_tokens=64))
            with pytest.raises(ContextLengthError, match=r"3000 tokens.*64"):
                await answer(backend, completion(prompt="\t" * 3000))

        assert "at most" in str(too_many.value)

    run(main())


def test_a_refusal_says_whether_the_model_or_the_kv_memory_is_what_limits(tmp_path: Path) -> None:
    vocabulary = tiny_vocabulary()
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    config = replace(TINY_CONFIG, vocabulary=len(tokens), context_length=4096)  # 2 MiB of KV
    write_random_model(tmp_path / "m.gguf", config, metadata=vocabulary)

    async def main() -> None:
        async with backend_of(tmp_path / "m.gguf", kv_memory_mb=1) as backend:
            with pytest.raises(ContextLengthError) as by_memory:
                await answer(backend, completion(prompt="\t" * 3000))
            with pytest.raises(ContextLengthError) as by_model:
                await answer(backend, completion(prompt="\t" * 6000))

        assert "the model takes 4096" in str(by_memory.value)
        assert "--kv-memory-mb" in str(by_memory.value)
        assert "--kv-memory-mb" not in str(by_model.value)

    run(main())


def test_options_of_the_chat_template_reach_it(tmp_path: Path) -> None:
    vocabulary = tiny_vocabulary(chat_template="Hi{% if thinking %}, and why?{% endif %}")
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    config = replace(TINY_CONFIG, vocabulary=len(tokens))
    write_random_model(tmp_path / "m.gguf", config, metadata=vocabulary)
    chat = {"prompt": None, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}

    async def main() -> None:
        lengths = []
        async with backend_of(tmp_path / "m.gguf") as backend:
            for options in ({}, {"thinking": False}, {"thinking": True}):
                chunks = await answer(backend, completion(**chat, template_options=options))
                assert chunks[-1].usage is not None
                lengths.append(chunks[-1].usage.prompt_tokens)

        assert lengths[0] == lengths[1] < lengths[2]

    run(main())


def test_token_ids_outside_the_vocabulary_are_refused(tiny_model: Path) -> None:
    async def main() -> None:
        async with backend_of(tiny_model) as backend:
            with pytest.raises(RequestError, match="99999"):
                await answer(backend, completion(prompt=[1, 99999]))

    run(main())


def test_closing_a_stream_frees_its_place_in_the_engine(tiny_model: Path) -> None:
    async def main() -> None:
        async with backend_of(tiny_model, max_sequences=1, queue_limit=0) as backend:
            async with aclosing(backend.stream(completion(max_tokens=900))) as chunks:
                await anext(chunks)
                with pytest.raises(QueueFullError) as full:
                    await answer(backend, completion())
            async with asyncio.timeout(10):
                while not text(await answer_or_nothing(backend)):
                    await asyncio.sleep(0.02)

        assert full.value.retry_after_s > 0

    run(main())


async def answer_or_nothing(backend: EngineBackend) -> list[Chunk]:
    try:
        return await answer(backend, completion(max_tokens=2))
    except QueueFullError:
        return []


@pytest.mark.parametrize(
    "long",
    [
        {"prompt": "the rain in Spain " * 60_000},
        {"prompt": None, "messages": [{"role": "user", "content": ""}] * 30_000},
    ],
    ids=["text", "messages"],
)
def test_a_long_prompt_does_not_stall_the_event_loop(
    tiny_model: Path, long: dict[str, Any]
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        slowest = 0.0

        async def watch() -> None:
            nonlocal slowest
            while True:
                before = loop.time()
                await asyncio.sleep(0.005)
                slowest = max(slowest, loop.time() - before)

        async with backend_of(tiny_model) as backend:
            watcher = asyncio.create_task(watch())
            await asyncio.sleep(0.02)
            before = loop.time()
            with pytest.raises(ContextLengthError):
                await answer(backend, completion(**long))
            took = loop.time() - before
            await asyncio.sleep(0.02)  # a loop that stood still tells the watcher only now
            watcher.cancel()

        assert slowest < took / 2

    run(main())


def test_an_engine_that_cannot_start_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but not really")

    async def main() -> None:
        with pytest.raises(EngineError, match=r"could not be started") as failed:
            async with backend_of(broken):
                pass

        assert "broken.gguf" in failed.value.message

    run(main())


def test_closing_the_backend_ends_streams_with_an_error_and_leaves_no_process(
    tiny_model: Path,
) -> None:
    async def main() -> int:
        async with backend_of(tiny_model) as backend:
            pid = worker_pid(backend)
            assert pid is not None
            chunks = backend.stream(completion(max_tokens=900))
            await anext(chunks)
            await backend.close()
            with pytest.raises(EngineError, match="stopped"):
                async for _ in chunks:
                    pass
        return pid

    pid = run(main())

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

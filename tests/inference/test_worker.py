"""Client and worker as two real processes: answers, refusals, cancellation, death and resuming."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tokenworks.errors import ContextLengthError, EngineLost, QueueFullError, RequestError
from tokenworks.fleet.processes import Process
from tokenworks.inference.client import EngineClient, encode_settings, worker_command
from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.scripted import ScriptedExecutor, scripted_logits
from tokenworks.inference.framing import Unframer, frame
from tokenworks.inference.messages import (
    EXIT_CANNOT_SERVE,
    EXIT_PROTOCOL,
    Cancel,
    FromWorker,
    Generate,
    Sampling,
    Step,
    Token,
)
from tokenworks.inference.sampler import sample
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.worker import Worker, describe
from tokenworks.telemetry.clock import MonotonicClock

SCRIPTED = Path(__file__).with_name("scripted_worker.py")
SETTINGS = EngineSettings(model_path="", model_id="scripted", max_sequences=8)


@dataclass
class Running:
    process: Process
    client: EngineClient
    connection: socket.socket


@asynccontextmanager
async def worker(
    settings: EngineSettings = SETTINGS,
    *,
    delay_s: float = 0.0,
    command: Callable[[int], Sequence[str]] | None = None,
) -> AsyncIterator[Running]:
    """A worker process, scripted unless a command is given, and a client that talks to it."""
    ours, theirs = socket.socketpair()
    fd = theirs.fileno()
    arguments = command(fd) if command else [sys.executable, str(SCRIPTED), str(fd), str(delay_s)]
    process = await Process.start(
        "worker", arguments, stdin=encode_settings(settings), pass_fds=(fd,)
    )
    theirs.close()
    client = await EngineClient.connect(ours)
    try:
        yield Running(process, client, ours)
    finally:
        await client.close()
        await process.terminate(grace_s=5)


def request(name: str, prompt: list[int], **sampling: Any) -> Generate:
    values = {"max_tokens": 30, "seed": len(name), **sampling}
    return Generate(request_id=name, prompt=prompt, sampling=Sampling(**values))


def answer(request: Generate) -> list[int]:
    """The tokens that a request must get, computed without engine or worker."""
    tokens = list(request.prompt)
    for index in range(request.sampling.max_tokens):
        logits = scripted_logits(np.array(tokens, np.int32), 97)
        tokens.append(sample(logits, request.sampling, index).token)
    return tokens[len(request.prompt) :]


async def collect(client: EngineClient, request: Generate) -> list[int]:
    return [token.token async for token in client.generate(request)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def run(test: Awaitable[None]) -> None:
    async def within_time() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(within_time())


def test_a_worker_says_what_it_serves_and_answers() -> None:
    async def test() -> None:
        async with worker() as running:
            ready = await running.client.ready()
            assert (ready.model, ready.executor) == ("scripted", "scripted")
            assert (ready.context_length, ready.max_sequences) == (512, 8)

            wanted = request("a", [1, 2, 3])
            assert await collect(running.client, wanted) == answer(wanted)
            assert running.client.load.running == 0

    run(test())


def test_64_requests_at_once_get_their_own_answers() -> None:
    async def test() -> None:
        async with worker() as running:
            requests = [request(f"r{n}", [n % 7] * (n + 1)) for n in range(64)]

            answers = await asyncio.gather(*(collect(running.client, r) for r in requests))

            assert answers == [answer(r) for r in requests]

    run(test())


@pytest.mark.parametrize("tokens_before", [1, 7, 29])
def test_an_answer_goes_on_exactly_after_the_worker_was_killed(tokens_before: int) -> None:
    async def test() -> None:
        wanted = request("a", [5, 6], max_tokens=400)  # more than come before the signal does
        received: list[int] = []
        async with worker(delay_s=0.005) as first:
            stream = first.client.generate(wanted)
            for _ in range(tokens_before):
                received.append((await anext(stream)).token)
            os.kill(first.process.pid, signal.SIGKILL)
            with pytest.raises(EngineLost):
                # What was on its way still arrives.
                received += [token.token async for token in stream]
            assert first.client.lost
        assert tokens_before <= len(received) < 400
        assert received == answer(wanted)[: len(received)]

        async with worker() as second:
            resumed = Generate(
                request_id="a",
                prompt=wanted.prompt,
                sampling=wanted.sampling,
                generated=received,
            )
            received += await collect(second.client, resumed)
        assert received == answer(wanted)

    run(test())


def test_leaving_a_stream_cancels_the_request() -> None:
    async def test() -> None:
        async with worker(delay_s=0.005) as running:
            async with aclosing(running.client.generate(request("a", [1], max_tokens=400))) as s:
                first = await anext(s)
                assert first.finish_reason is None
                assert running.client.load.running == 1

            await until(lambda: running.client.load.running == 0)

            assert running.client.load.pages_used == 0
            again = request("a", [1], max_tokens=3)
            assert await collect(running.client, again) == answer(again)

    run(test())


def test_requests_beyond_the_queue_are_told_when_to_come_back() -> None:
    async def test() -> None:
        settings = EngineSettings(model_path="", model_id="m", max_sequences=2, queue_limit=1)
        async with worker(settings, delay_s=0.01) as running:
            streams = [running.client.generate(request(name, [1])) for name in "abcd"]
            outcomes = await asyncio.gather(
                *(anext(stream) for stream in streams), return_exceptions=True
            )
            for stream in streams:
                await stream.aclose()

            assert [type(outcome) for outcome in outcomes] == [Token] * 3 + [QueueFullError]
            assert isinstance(outcomes[3], QueueFullError)
            assert outcomes[3].retry_after_s >= 1

    run(test())


@pytest.mark.parametrize(
    ("bad", "error", "said"),
    [
        (request("a", [1] * 600), ContextLengthError, "600 prompt tokens"),
        (request("a", [1] * 17_000_000), ContextLengthError, "17000000 prompt tokens"),
        (request("a", []), RequestError, "no tokens"),
        (request("a", [-5]), RequestError, "token ids outside"),
        (request("a", [1], top_p=7.0), RequestError, "top_p"),
    ],
)
def test_a_bad_request_is_an_error_and_the_worker_lives(
    bad: Generate, error: type[RequestError], said: str
) -> None:
    async def test() -> None:
        async with worker() as running:
            with pytest.raises(error, match=said):
                await collect(running.client, bad)

            good = request("a", [1])
            assert await collect(running.client, good) == answer(good)

    run(test())


def test_an_id_in_flight_cannot_be_used_twice() -> None:
    async def test() -> None:
        async with (
            worker(delay_s=0.01) as running,
            aclosing(running.client.generate(request("a", [1]))) as stream,
        ):
            await anext(stream)
            with pytest.raises(RequestError, match="'a' is in use"):
                await collect(running.client, request("a", [1]))

    run(test())


def test_everyone_hears_that_the_worker_is_gone() -> None:
    async def test() -> None:
        async with worker(delay_s=0.01) as running:
            waiting = [
                asyncio.create_task(collect(running.client, request(name, [1], max_tokens=400)))
                for name in "abc"
            ]
            await until(lambda: running.client.load.running == 3)
            os.kill(running.process.pid, signal.SIGKILL)

            outcomes = await asyncio.gather(*waiting, return_exceptions=True)

            assert [type(outcome) for outcome in outcomes] == [EngineLost] * 3
            with pytest.raises(EngineLost):
                await collect(running.client, request("d", [1]))

    run(test())


@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_exits_when_its_parent_is_gone(busy: bool) -> None:
    async def test() -> None:
        async with worker(delay_s=0.002) as running:
            await running.client.ready()
            if busy:
                await anext(running.client.generate(request("a", [1], max_tokens=500)))
            await running.client.close()

            async with asyncio.timeout(5):
                assert await running.process.wait() == 0

    run(test())


def test_ctrl_c_is_left_to_the_parent_and_sigterm_ends(tiny_model: Path) -> None:
    async def test() -> None:
        settings = EngineSettings(model_path=str(tiny_model), model_id="m", executor="reference")
        async with worker(settings, command=worker_command) as running:
            await running.client.ready()
            os.kill(running.process.pid, signal.SIGINT)
            tokens = await collect(running.client, request("a", [1, 2], max_tokens=5))
            assert len(tokens) == 5

            os.kill(running.process.pid, signal.SIGTERM)
            async with asyncio.timeout(5):
                assert await running.process.wait() == -signal.SIGTERM

    run(test())


def test_a_real_model_goes_on_exactly_on_another_worker(tiny_model: Path) -> None:
    async def test() -> None:
        settings = EngineSettings(model_path=str(tiny_model), model_id="m", executor="reference")
        wanted = request("a", list(range(40)), max_tokens=30, temperature=0.8, top_p=0.95)
        async with worker(settings, command=worker_command) as first:
            whole = await collect(first.client, wanted)
        assert len(set(whole)) > 5

        async with worker(settings, command=worker_command) as second:
            resumed = Generate(
                request_id="b", prompt=wanted.prompt, sampling=wanted.sampling, generated=whole[:11]
            )
            other = request("c", [7] * 50)
            rest, _ = await asyncio.gather(
                collect(second.client, resumed), collect(second.client, other)
            )
        assert rest == whole[11:]

    run(test())


def test_nonsense_on_the_socket_ends_the_worker_with_a_reason(tiny_model: Path) -> None:
    settings = EngineSettings(model_path=str(tiny_model), model_id="m", executor="reference")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"\x00\x00\x00\x03abc")
        done = start_and_wait(settings, theirs)

    assert done.returncode == EXIT_PROTOCOL
    assert "error: a message cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{}", "missing required field"),
        (b'{"model_path": "/no/such.gguf", "model_id": "m"}', "/no/such.gguf"),
        (b'{"model_path": "", "model_id": "m", "threads": -1}', "threads"),
    ],
)
def test_a_worker_that_can_never_serve_says_so(text: bytes, said: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = start_and_wait(text, theirs)

    assert done.returncode == EXIT_CANNOT_SERVE
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_more_kv_memory_than_the_machine_has_is_refused_at_the_start(tiny_model: Path) -> None:
    most = 2**31 - 1
    settings = EngineSettings(
        model_path=str(tiny_model),
        model_id="m",
        executor="reference",
        kv_memory_mb=most,
        max_sequences=most,
        max_batch_tokens=most,
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = start_and_wait(settings, theirs)

    assert done.returncode == EXIT_CANNOT_SERVE
    assert "error: the KV store would take" in done.stderr
    assert "hint: set a smaller kv_memory_mb" in done.stderr


def test_a_worker_started_by_hand_says_what_starts_it() -> None:
    done = subprocess.run(
        worker_command(0)[:-1], input="", capture_output=True, text=True, timeout=20, check=False
    )

    assert done.returncode == EXIT_CANNOT_SERVE
    assert "hint: it is started by: tokenworks up" in done.stderr


def test_a_reader_that_falls_behind_stops_the_engine_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most_unsent = 1 << 17
    monkeypatch.setattr("tokenworks.inference.worker._MAX_UNSENT_BYTES", most_unsent)
    executor = ScriptedExecutor()
    engine = Engine(executor, SETTINGS, MonotonicClock())
    ours, theirs = socket.socketpair()
    # About 900 kB of alternatives, more than socket and worker hold.
    requests = [request(f"r{n}", [n], max_tokens=100, logprobs=97) for n in range(8)]
    process = Worker(theirs, engine)
    thread = threading.Thread(target=process.serve, args=(describe(engine, SETTINGS, ""),))
    with ours, theirs:
        thread.start()
        ours.sendall(b"".join(map(frame, requests)))
        while len(process._unsent) < most_unsent:
            assert thread.is_alive()
            time.sleep(0.005)
        stopped_at = executor.forwards
        assert stopped_at < 100

        tokens = []
        unframer = Unframer(msgspec.msgpack.Decoder(FromWorker))
        while len(tokens) < 8 * 100:
            for message in unframer.feed(ours.recv(1 << 18)):
                tokens += message.tokens if isinstance(message, Step) else []
        ours.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert executor.forwards > stopped_at
    mine = [token.token for token in tokens if token.request_id == "r3"]
    assert mine == answer(requests[3])


def test_a_worker_imports_only_what_it_needs() -> None:
    unwanted = {"torch", "fastapi", "pydantic", "tokenizers", "jinja2", "asyncio", "rich"}
    program = "import sys, tokenworks.inference.worker; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()

    assert "numpy" in loaded
    assert unwanted.isdisjoint(loaded)


def start_and_wait(
    settings: EngineSettings | bytes, connection: socket.socket
) -> subprocess.CompletedProcess[str]:
    text = settings if isinstance(settings, bytes) else encode_settings(settings)
    return subprocess.run(
        worker_command(connection.fileno()),
        input=text.decode(),
        capture_output=True,
        text=True,
        pass_fds=(connection.fileno(),),
        timeout=20,
        check=False,
    )


def test_a_cancel_for_nobody_is_ignored() -> None:
    async def test() -> None:
        async with worker() as running:
            running.client._write(frame(Cancel(request_id="nobody")))
            good = request("a", [1])
            assert await collect(running.client, good) == answer(good)

    run(test())

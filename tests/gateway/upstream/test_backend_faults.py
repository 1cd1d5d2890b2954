"""Backends over real sockets, against a server that goes wrong as it is told."""

import asyncio
import gc
import random
import time
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from tokenworks.errors import (
    BackendError,
    BackendLost,
    ConfigError,
    DeadlineError,
    QueueFullError,
    RequestError,
)
from tokenworks.gateway.backend import Chunk
from tokenworks.gateway.upstream.backend import UpstreamBackend
from tokenworks.gateway.upstream.health import BreakerSettings
from tokenworks.gateway.upstream.settings import Limits
from upstream_backends import (
    DIALECTS,
    KEY,
    answer,
    backend_of,
    completion,
    run,
    settings_of,
    text,
    told,
    until,
)
from upstream_server import Script, UpstreamServer, upstream_server


@pytest.fixture
def server() -> Iterator[UpstreamServer]:
    with upstream_server() as running:
        yield running


FAULTS = (
    "reset",
    "close",
    "stall",
    "garbage",
    "truncated_json",
    "loris",
    "long_line",
    "error_event",
)
BEFORE = ("reset", "stall", "garbage", "loris", "long_head", "wrong_type")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fault", [*FAULTS, "bad_chunk"])
def test_what_breaks_after_text_is_lost_and_keeps_the_text(
    server: UpstreamServer, dialect: str, fault: str
) -> None:
    events = 3 if dialect == "openai" else 5  # two of them text
    server.script = Script(pieces=("a", "b", "c", "d"), fault=fault, at=events)
    got: list[Chunk] = []

    async def collect(backend: UpstreamBackend) -> None:
        async for chunk in backend.stream(completion()):
            got.append(chunk)

    async def main() -> None:
        limits = Limits(first_byte_s=5, idle_s=0.3)
        async with backend_of(server, dialect, limits=limits) as backend:
            with pytest.raises(BackendLost, match="'there' broke off"):
                await collect(backend)
            assert backend.state().in_flight == 0
            await until(lambda: server.open_connections == 0)

    run(main())

    assert text(got) == "ab"
    assert all(chunk.finish_reason is None for chunk in got)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fault", BEFORE)
def test_what_breaks_before_text_is_an_error_that_another_backend_may_mend(
    server: UpstreamServer, dialect: str, fault: str
) -> None:
    server.script = Script(fault=fault)
    begun = time.monotonic()
    with pytest.raises(BackendError, match="'there'") as failed:
        told(server, dialect, limits=Limits(first_byte_s=0.3))

    assert not isinstance(failed.value, BackendLost)
    assert failed.value.retryable
    assert time.monotonic() - begun < 4


def test_bytes_of_an_event_that_never_ends_do_not_keep_a_request_alive(
    server: UpstreamServer,
) -> None:
    server.script = Script(fault="loris", at=2, delay_s=0.01)
    begun = time.monotonic()
    with pytest.raises(BackendLost, match="nothing in time"):
        told(server, limits=Limits(idle_s=0.3))

    assert time.monotonic() - begun < 3


def test_a_whole_answer_has_its_time(server: UpstreamServer) -> None:
    server.script = Script(pieces=("x",) * 1000, delay_s=0.02)
    begun = time.monotonic()
    with pytest.raises(BackendLost):
        told(server, limits=Limits(total_s=0.3))

    assert 0.2 < time.monotonic() - begun < 3


def test_a_deadline_is_for_the_first_text_only(server: UpstreamServer) -> None:
    async def main() -> None:
        async with backend_of(server) as backend:
            server.script = Script(fault="stall")
            with pytest.raises(DeadlineError):
                await answer(backend, deadline_s=0.1)
            server.script = Script(fault="stall", at=1)  # a head, and no text
            with pytest.raises(DeadlineError):
                await answer(backend, deadline_s=0.1)
            server.script = Script(delay_s=0.1)
            assert text(await answer(backend, deadline_s=0.3)) == "Hello, world!"
            assert backend.state().error_rate == 0  # a short deadline is no fault of theirs

    run(main())


def test_an_answer_that_was_complete_but_for_its_usage_is_complete(server: UpstreamServer) -> None:
    server.script = Script(fault="reset", at=6)  # role, four pieces, finish reason

    async def main() -> list[Chunk]:
        async with backend_of(server) as backend:
            chunks = await answer(backend)
            assert backend.answers_without_usage == 1
            return chunks

    chunks = run(main())

    assert text(chunks) == "Hello, world!"
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4


@pytest.mark.parametrize("dialect", DIALECTS)
def test_statuses_mean_what_they_mean(server: UpstreamServer, dialect: str) -> None:
    async def main() -> None:
        async with backend_of(server, dialect) as backend:
            server.script = Script(fault="status", status=400, message="no such\x1b[31m field")
            with pytest.raises(RequestError, match=r"no such \[31m field"):
                await answer(backend)
            server.script = Script(fault="status", status=500)
            with pytest.raises(BackendError, match="status 500"):
                await answer(backend)
            moved = {"location": f"{server.address}/elsewhere"}
            server.script = Script(fault="status", status=307, headers=moved)
            with pytest.raises(BackendError, match="never followed"):
                await answer(backend)
            assert not any("elsewhere" in asked.path for asked in server.asked)
            server.script = Script(fault="status", status=429, headers={"retry-after": "30"})
            with pytest.raises(BackendError) as limited:
                await answer(backend)
            assert limited.value.retry_after_s == 30
            assert server.connections == 1  # refusals are read to their ends

            asked = len(server.asked)
            with pytest.raises(BackendError, match="asked for a rest") as waiting:
                await answer(backend)
            assert len(server.asked) == asked
            assert waiting.value.retry_after_s is not None
            assert 29 < waiting.value.retry_after_s <= 30

    run(main())


def test_an_overloaded_backend_is_left_alone_for_as_long_as_it_says(
    server: UpstreamServer,
) -> None:
    server.script = Script(fault="status", status=503, headers={"retry-after": "20"})

    async def main() -> None:
        async with backend_of(server) as backend:
            with pytest.raises(BackendError, match="503"):
                await answer(backend)
            state = backend.state()
            assert (state.phase, state.available) == ("closed", False)
            assert state.retry_after_s == pytest.approx(20, abs=1)

    run(main())


def test_a_compressed_answer_is_refused(server: UpstreamServer) -> None:
    server.script = Script(headers={"content-encoding": "gzip"})
    with pytest.raises(BackendError, match="compressed"):
        told(server)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_refused_key_is_said_and_not_shown_and_nobody_tries_it_again_soon(
    server: UpstreamServer, dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.key = "another"
    shown = []

    async def main() -> None:
        how = {"environment": {"THERE": KEY}}
        async with backend_of(server, dialect, how=how, api_key_variable="THERE") as backend:
            with pytest.raises(BackendError, match="refuses this gateway's own key") as refused:
                await answer(backend)
            assert not refused.value.retryable
            with pytest.raises(BackendError, match="not asked now"):
                await answer(backend)
            assert len(server.asked) == 1
            shown.extend([str(refused.value), repr(refused.value), repr(backend.status())])
            shown.extend([repr(vars(backend)), repr(backend.state()), caplog.text])

    run(main())

    assert "canary" not in "".join(shown)


def test_a_key_that_is_missing_is_found_at_the_start(server: UpstreamServer) -> None:
    async def main() -> None:
        backend = UpstreamBackend(settings_of(server, api_key_variable="NONE"))
        with pytest.raises(ConfigError, match="NONE"):
            await backend.start()
        with pytest.raises(BackendError, match="not started"):
            await answer(backend)

    run(main())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_closing_the_stream_closes_the_connection_and_the_backend_sees_it(
    server: UpstreamServer, dialect: str
) -> None:
    server.script = Script(pieces=("x",) * 10_000, delay_s=0.01)

    async def main() -> None:
        async with backend_of(server, dialect) as backend:
            async with aclosing(backend.stream(completion())) as chunks:
                await anext(chunks)
                assert server.open_connections == 1
            await until(lambda: server.left_early == 1)

            task = asyncio.create_task(answer(backend))
            await until(lambda: len(server.asked) == 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: server.left_early == 2)
            await until(lambda: server.open_connections == 0)
            state = backend.state()
            assert (state.in_flight, state.error_rate) == (0, 0)

    run(main())


def test_closing_the_backend_ends_what_runs_there(server: UpstreamServer) -> None:
    server.script = Script(fault="stall", at=3)

    async def main() -> None:
        async with backend_of(server) as backend:
            task = asyncio.create_task(answer(backend))
            await until(lambda: server.open_connections == 1)
            await asyncio.sleep(0.05)
            await backend.close()
            with pytest.raises(BackendLost, match="from this side"):
                await task
            assert backend.status().state == "stopped"

    run(main())


def test_500_faulty_streams_leave_no_connection_and_no_task(server: UpstreamServer) -> None:
    draw = random.Random(11)
    kinds = ("", "", "reset", "close", "garbage", "truncated_json", "bad_chunk", "error_event")
    server.choose = lambda asked: Script(
        pieces=("a", "b", "c", "d", "e"),
        fault=draw.choice((*kinds, "stall", "status", "wrong_type")),
        at=draw.randrange(8),
        split=draw.choice((0, 0, 5)),
    )
    server.remember = False
    outcomes = {"whole": 0, "lost": 0, "failed": 0, "left": 0}

    async def one(backend: UpstreamBackend, number: int) -> None:
        try:
            async with aclosing(backend.stream(completion())) as chunks:
                async for _ in chunks:
                    if number % 9 == 0:
                        outcomes["left"] += 1
                        return
            outcomes["whole"] += 1
        except BackendLost:
            outcomes["lost"] += 1
        except BackendError:
            outcomes["failed"] += 1

    async def main() -> None:
        limits = Limits(first_byte_s=0.5, idle_s=0.5)
        async with backend_of(server, limits=limits) as backend:
            tasks = len(asyncio.all_tasks())
            for start in range(0, 500, 50):
                await asyncio.gather(*(one(backend, start + n) for n in range(50)))
            assert len(asyncio.all_tasks()) == tasks
            assert backend.state().in_flight == 0
            status = backend.status()
            await until(lambda: server.open_connections == status.details["connections"])
            server.choose = None
            assert text(await answer(backend)) == "Hello, world!"
        await until(lambda: server.open_connections == 0)

    run(main())
    gc.collect()

    assert sum(outcomes.values()) == 500
    assert min(outcomes.values()) >= 20, outcomes


def test_no_more_requests_run_there_than_may(server: UpstreamServer) -> None:
    server.script = Script(fault="stall", at=3)

    async def main() -> None:
        limits = Limits(concurrent=2)
        async with backend_of(server, limits=limits) as backend:
            tasks = [asyncio.create_task(answer(backend)) for _ in range(2)]
            await until(lambda: backend.state().in_flight == 2)
            assert not backend.state().available
            with pytest.raises(QueueFullError):
                await answer(backend)
            tasks[0].cancel()
            await asyncio.wait(tasks[:1])
            assert backend.state().available
            server.script = Script()
            await answer(backend)
            tasks[1].cancel()
            await asyncio.wait(tasks)

    run(main())


def test_a_backend_that_fails_is_left_alone_probed_and_taken_back(server: UpstreamServer) -> None:
    async def main() -> None:
        how = {"breaker": BreakerSettings(consecutive=3, open_s=0.2, successes=1)}
        async with backend_of(server, how=how) as backend:
            server.script = Script(fault="status", status=503)
            for _ in range(3):
                with pytest.raises(BackendError, match="503"):
                    await answer(backend)
            assert backend.status().state == "failed"
            with pytest.raises(BackendError, match="not asked now"):
                await answer(backend)
            # A server that refuses all is asked for its models, and for nothing else.
            await until(lambda: sum(one.method == "GET" for one in server.asked) >= 2)
            assert {one.path for one in server.asked[3:]} == {"/v1/models"}
            assert backend.status().state == "failed"

            server.script = Script()
            await until(lambda: backend.status().state == "restarting")
            assert text(await answer(backend)) == "Hello, world!"
            state = backend.state()
            assert (state.phase, state.available) == ("closed", True)
            assert state.share < 1

    run(main())

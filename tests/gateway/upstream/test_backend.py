"""Backends over real sockets: what is sent, and what comes back."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace

import pytest
import uvloop

from tokenworks.errors import (
    BackendError,
    ModelNotFound,
    RequestError,
)
from tokenworks.gateway.backend import Chunk, ToolCallPiece
from tokenworks.telemetry.trace import TraceContext
from upstream_backends import (
    DIALECTS,
    KEY,
    answer,
    backend_of,
    completion,
    run,
    text,
    told,
    until,
)
from upstream_server import Script, UpstreamServer, upstream_server


@pytest.fixture
def server() -> Iterator[UpstreamServer]:
    with upstream_server() as running:
        yield running


RICH = Script(
    reasoning=("Let me", " see"),
    pieces=("Hé", "llo ", "世界", " 🙂"),
    tool_calls=(("c1", "look", '{"at": "it"}'), ("c2", "run", "{}")),
    finish="tool_calls",
    usage=(11, 5, 2),
)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "script",
    [
        RICH,
        replace(RICH, split=1),
        replace(RICH, split=3, line_end=b"\r\n"),
        replace(RICH, line_end=b"\r"),
        replace(RICH, until_close=True),
        replace(RICH, done=False),
    ],
    ids=["whole", "every byte", "crlf", "cr", "until close", "no last event"],
)
def test_an_answer_arrives_whole_however_it_is_cut(
    server: UpstreamServer, dialect: str, script: Script
) -> None:
    server.script = script
    chunks = told(server, dialect)
    calls: dict[int, ToolCallPiece] = {}
    for piece in (piece for chunk in chunks for piece in chunk.tool_calls):
        before = calls.get(piece.index, ToolCallPiece(index=piece.index))
        calls[piece.index] = ToolCallPiece(
            index=piece.index,
            id=before.id or piece.id,
            name=before.name or piece.name,
            arguments=before.arguments + piece.arguments,
        )

    assert text(chunks) == "Héllo 世界 🙂"
    assert "".join(chunk.reasoning for chunk in chunks) == "Let me see"
    assert [(c.id, c.name, c.arguments) for c in calls.values()] == list(RICH.tool_calls)
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["tool_calls"]
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.cached_tokens) == (11, 5)
    assert usage.completion_tokens == RICH.completion_tokens
    assert usage.reasoning_tokens == 2


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_piece_comes_at_once_and_not_with_the_next(
    server: UpstreamServer, dialect: str
) -> None:
    server.script = Script(
        pieces=("a", "b", "c"), fault="stall", at=4 if dialect == "openai" else 6
    )

    async def main() -> str:
        async with (
            backend_of(server, dialect) as backend,
            aclosing(backend.stream(completion())) as chunks,
        ):
            return "".join([(await anext(chunks)).text for _ in range(3)])

    assert run(main()) == "abc"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_same_under_uvloop(server: UpstreamServer, dialect: str) -> None:
    server.script = Script(pieces=("a", "b"), split=1)

    async def main() -> None:
        async with backend_of(server, dialect) as backend:
            for _ in range(3):
                assert text(await answer(backend)) == "ab"
            server.script = Script(fault="reset", at=3)
            with pytest.raises(BackendError):
                await answer(backend)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert server.connections == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_backend_gets_its_own_key_and_nothing_of_the_client(
    server: UpstreamServer, dialect: str
) -> None:
    above = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", flags=1)

    async def main() -> None:
        how = {"environment": {"THERE": KEY}, "trace": lambda: above}
        async with backend_of(server, dialect, how=how, api_key_variable="THERE") as backend:
            await answer(backend, tenant="tenant-canary")
            await answer(backend, request_id="bad\r\nx-injected: 1")

    server.key = KEY
    run(main())
    first, second = server.asked

    expected = {"host", "accept-encoding", "user-agent", "content-type", "content-length"}
    expected |= {"x-request-id", "traceparent"}
    expected |= {"authorization"} if dialect == "openai" else {"x-api-key", "anthropic-version"}
    assert set(first.headers) == expected
    assert first.headers["x-request-id"] == "req-1"
    spans = [one.headers["traceparent"].split("-") for one in server.asked]
    assert {(span[1], span[3]) for span in spans} == {(above.trace_id, "01")}
    assert len({above.span_id, *(span[2] for span in spans)}) == 3
    assert set(second.headers) == expected - {"x-request-id"}
    assert b"canary" not in first.raw


def test_times_are_measured_for_policies(server: UpstreamServer) -> None:
    server.script = Script(pieces=("x",) * 10, delay_s=0.02)

    async def main() -> None:
        async with backend_of(server) as backend:
            await answer(backend)
            state = backend.state()
            assert state.first_token_s is not None
            assert state.inter_token_s is not None
            assert 0.015 < state.first_token_s < 0.5
            assert 0.015 < state.inter_token_s < 0.2
            assert {"first_token_s", "inter_token_s"} <= set(backend.status().details)

    run(main())


def test_a_drained_backend_ends_what_runs_and_takes_nothing_new(server: UpstreamServer) -> None:
    server.script = Script(delay_s=0.05)

    async def main() -> None:
        async with backend_of(server) as backend:
            task = asyncio.create_task(answer(backend))
            await until(lambda: backend.state().in_flight == 1)
            backend.drain()
            with pytest.raises(BackendError, match="drained"):
                await answer(backend)
            assert text(await task) == "Hello, world!"
            backend.drain(False)
            assert text(await answer(backend)) == "Hello, world!"

    run(main())


def test_several_answers_and_their_logprobs_arrive(server: UpstreamServer) -> None:
    async def main() -> list[Chunk]:
        async with backend_of(server) as backend:
            return await answer(backend, n=2, logprobs=1)

    chunks = run(main())

    for index in (0, 1):
        mine = [chunk for chunk in chunks if chunk.index == index]
        assert text(mine) == "Hello, world!"
        assert [token.logprob for chunk in mine for token in chunk.logprobs] == [-0.5] * 4
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8


def test_a_text_completion_arrives(server: UpstreamServer) -> None:
    async def main() -> list[Chunk]:
        async with backend_of(server) as backend:
            return await answer(backend, messages=None, prompt="Once")

    assert text(run(main())) == "Hello, world!"
    assert server.asked[0].path == "/v1/completions"


def test_models_are_known_by_our_names_and_asked_for_by_theirs(server: UpstreamServer) -> None:
    async def main() -> None:
        async with backend_of(server) as backend:
            assert backend.models == ("ours",)
            await answer(backend, model="OURS")
            with pytest.raises(ModelNotFound):
                await answer(backend, model="theirs")

    run(main())

    assert server.asked[0].body["model"] == "theirs"


def test_embeddings_are_passed_through(server: UpstreamServer) -> None:
    async def main() -> None:
        async with backend_of(server) as backend:
            reply = await backend.embed("ours", ["a", "b"], {"dimensions": 4})
            assert reply["model"] == "ours"
            assert [len(one["embedding"]) for one in reply["data"]] == [4, 4]
            assert server.asked[0].body == {"model": "theirs", "input": ["a", "b"], "dimensions": 4}
            server.script = Script(fault="status", status=503)
            with pytest.raises(BackendError, match="503"):
                await backend.embed("ours", ["a"], {})
            assert backend.state().error_rate > 0
        async with backend_of(server, "anthropic") as other:
            with pytest.raises(RequestError, match="no embeddings"):
                await other.embed("ours", ["a"], {})

    run(main())

"""The official client against the real server, in front of a script and of a real engine."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import openai
import pytest

from serving import Serving, serving
from tokenworks.errors import EngineError, QueueFullError
from tokenworks.gateway.engine import EngineBackend
from tokenworks.gateway.scripted import ScriptedBackend
from tokenworks.inference.settings import EngineSettings
from tokenworks.server.settings import ServerSettings
from tokenworks.telemetry.metrics import Metrics

HELLO = [{"role": "user", "content": "hello"}]


def client_of(server: Serving, **options: object) -> openai.OpenAI:
    wanted = {"api_key": "none", "max_retries": 0, "timeout": 60.0}
    return openai.OpenAI(base_url=f"{server.url}/v1", **(wanted | options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Serving]:
    settings = EngineSettings(
        model_path=str(tiny_model), model_id="Tiny-Model", executor="reference", threads=1
    )
    with serving(EngineBackend(settings, metrics=Metrics())) as server:
        yield server


@pytest.fixture
def scripted() -> ScriptedBackend:
    return ScriptedBackend(("Hel", "lo, ", "wor", "ld"))


@pytest.fixture
def script(scripted: ScriptedBackend) -> Iterator[Serving]:
    with serving(scripted) as server:
        yield server


def test_a_chat_streams_what_it_answers_unstreamed(engine: Serving) -> None:
    with client_of(engine) as client:
        asked = {"model": "tiny-model", "messages": HELLO, "max_tokens": 30, "seed": 5}
        whole = client.chat.completions.create(**asked)
        with client.chat.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}
        ) as stream:
            events = list(stream)
    pieces = [event.choices[0].delta.content or "" for event in events if event.choices]

    assert "".join(pieces) == whole.choices[0].message.content != ""
    assert whole.choices[0].finish_reason == "length"
    assert whole.model == "Tiny-Model"
    assert events[0].choices[0].delta.role == "assistant"
    assert events[-2].choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert events[-1].usage is not None
    assert whole.usage.completion_tokens == events[-1].usage.completion_tokens == 30
    assert whole.usage.prompt_tokens == events[-1].usage.prompt_tokens


def test_a_seed_fixes_the_answer_and_no_seed_does_not(engine: Serving) -> None:
    with client_of(engine) as client:

        def ask(seed: int | None) -> str | None:
            answer = client.chat.completions.create(
                model="tiny-model", messages=HELLO, max_tokens=24, seed=seed
            )
            return answer.choices[0].message.content

        assert ask(7) == ask(7)
        assert ask(7) != ask(8)
        assert ask(None) != ask(None)


def test_a_stop_string_cuts_the_answer_in_both_apis(engine: Serving) -> None:
    with client_of(engine) as client:
        asked = {"model": "tiny-model", "prompt": "the", "max_tokens": 40, "seed": 1}
        whole = client.completions.create(**asked).choices[0].text
        cut = client.completions.create(**asked, stop=[whole[12:14]]).choices[0]
        with client.completions.create(**asked, stop=whole[12:14], stream=True) as stream:
            streamed = [event.choices[0] for event in stream]

    assert cut.text == whole[: whole.index(whole[12:14])]
    assert cut.finish_reason == "stop"
    assert "".join(choice.text for choice in streamed) == cut.text
    assert streamed[-1].finish_reason == "stop"


def test_logprobs_have_the_shape_of_each_api(engine: Serving) -> None:
    with client_of(engine) as client:
        chat = client.chat.completions.create(
            model="tiny-model", messages=HELLO, max_tokens=8, logprobs=True, top_logprobs=2
        )
        text = client.completions.create(
            model="tiny-model", prompt="the", max_tokens=8, logprobs=2, temperature=0
        )
    tokens = chat.choices[0].logprobs.content  # type: ignore[union-attr]
    columns = text.choices[0].logprobs

    assert tokens is not None
    assert columns is not None
    raw = b"".join(bytes(token.bytes or ()) for token in tokens)
    assert raw.decode("utf-8", "replace") == chat.choices[0].message.content
    assert [len(token.top_logprobs) for token in tokens] == [2] * len(tokens)
    assert columns.text_offset is not None
    assert columns.text_offset[0] == 0
    assert len(columns.tokens or ()) == len(columns.token_logprobs or ()) == 8
    # Greedy takes the likeliest token: it leads its own alternatives.
    for token, alternatives in zip(columns.tokens or (), columns.top_logprobs or (), strict=True):
        assert max(alternatives, key=lambda name: alternatives[name]) == token


def test_64_clients_at_once_each_get_their_own_answer(engine: Serving) -> None:
    with client_of(engine) as client, ThreadPoolExecutor(64) as threads:

        def ask(seed: int) -> str:
            with client.completions.create(
                model="tiny-model", prompt=f"{seed}:", max_tokens=12, seed=seed, stream=True
            ) as stream:
                return "".join(event.choices[0].text for event in stream)

        together = list(threads.map(ask, range(64)))
        alone = [ask(seed) for seed in (0, 31, 63)]

    assert [together[seed] for seed in (0, 31, 63)] == alone
    assert len(set(together)) > 60


def test_models_are_listed_and_found_whatever_the_case(engine: Serving) -> None:
    with client_of(engine) as client:
        listed = client.models.list().data
        found = client.models.retrieve("TINY-model")

    assert [model.id for model in listed] == ["Tiny-Model"]
    assert found == listed[0]
    assert found.model_dump()["context_length"] == 1024


def test_errors_arrive_as_the_clients_own_exceptions(engine: Serving) -> None:
    with client_of(engine) as client:
        with pytest.raises(openai.NotFoundError, match="'Tiny-Model'") as unknown:
            client.chat.completions.create(model="gpt-9", messages=HELLO)
        with pytest.raises(openai.BadRequestError, match="at most") as too_long:
            client.chat.completions.create(model="tiny-model", messages=HELLO, max_tokens=5000)

    assert unknown.value.code == "model_not_found"
    assert too_long.value.code == "context_length_exceeded"
    assert too_long.value.param == "max_tokens"


def test_a_full_queue_is_429_and_says_when_to_come_back() -> None:
    full = ScriptedBackend(fault=QueueFullError("256 requests wait", retry_after_s=0.2))

    with serving(full) as server, client_of(server) as client:
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError) as refused:
                client.chat.completions.create(model="scripted", messages=HELLO, stream=stream)

            assert refused.value.response.headers["retry-after"] == "1"

    assert full.faults_fired == 2


def test_an_engine_that_is_gone_is_503_before_and_an_event_in_mid_answer() -> None:
    gone = EngineError("The engine is gone", hint="try again")

    with serving(ScriptedBackend(fault=gone)) as server, client_of(server) as client:
        with pytest.raises(openai.InternalServerError) as refused:
            client.chat.completions.create(model="scripted", messages=HELLO)

        assert refused.value.status_code == 503

    with serving(ScriptedBackend(fault=gone, fault_at=2)) as server, client_of(server) as client:
        events = client.chat.completions.create(model="scripted", messages=HELLO, stream=True)
        read = [next(events).choices[0].delta.content for _ in range(3)]
        with pytest.raises(openai.APIError, match=r"The engine is gone\. Try again"):
            next(events)

    assert read == ["", "Hello", ", "]


def test_a_bug_is_a_500_that_tells_nothing_of_our_insides(caplog: pytest.LogCaptureFixture) -> None:
    bug = ZeroDivisionError("secret detail")

    with (
        serving(ScriptedBackend(fault=bug)) as server,
        client_of(server) as client,
        pytest.raises(openai.InternalServerError) as failed,
    ):
        client.chat.completions.create(model="scripted", messages=HELLO)

    assert failed.value.status_code == 500
    assert "secret" not in failed.value.message
    assert "secret detail" in caplog.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_the_work(stream: bool) -> None:
    slow = ScriptedBackend(["x"] * 1000, delay_s=0.01)

    with serving(slow) as server:
        with client_of(server, timeout=0.2) as client:
            if stream:
                events = client.chat.completions.create(
                    model="scripted", messages=HELLO, stream=True
                )
                next(iter(events))
                events.close()
            else:
                with pytest.raises(openai.APITimeoutError):
                    client.chat.completions.create(model="scripted", messages=HELLO)
        left = threading.Event()
        for _ in range(200):
            if slow.closed_early:
                break
            left.wait(0.01)

        # Asked while the server runs: when it stops, it ends whatever is left.
        assert slow.closed_early == 1
        assert slow.completed == 0


def test_the_request_carries_every_parameter_to_the_backend(
    script: Serving, scripted: ScriptedBackend
) -> None:
    with client_of(script) as client:
        client.chat.completions.create(
            model="SCRIPTED",
            messages=[
                {"role": "developer", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                },
            ],
            max_completion_tokens=3,
            temperature=0.25,
            top_p=0.5,
            seed=-1,
            stop="END",
            user="someone",
            extra_body={
                "top_k": 7,
                "min_p": 0.125,
                "public_prefix": 1,
                "chat_template_kwargs": {"enable_thinking": False},
            },
            extra_headers={"x-request-id": "my-own-id"},
        )
    request = scripted.requests[0]

    assert request.request_id == "my-own-id"
    assert request.model == "scripted"
    assert request.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a\nb"},
    ]
    assert (request.max_tokens, request.temperature, request.top_p) == (3, 0.25, 0.5)
    assert (request.top_k, request.min_p, request.stop) == (7, 0.125, ("END",))
    assert request.template_options == {"enable_thinking": False}
    assert request.public_prefix == 1
    assert request.seed == 2**63 - 1


def test_each_key_is_a_tenant_whose_name_does_not_tell_it() -> None:
    scripted = ScriptedBackend()
    keys = ("one-key", "another-key", "one-key")
    body = {"model": "scripted", "prompt": "hi"}
    with serving(scripted) as server, httpx2.Client(base_url=server.url) as client:
        for key in keys:
            headers = {"authorization": f"Bearer {key}"}
            assert client.post("/v1/completions", json=body, headers=headers).status_code == 200
        for headers in ({}, {"authorization": "Bearer"}, {"authorization": "Basic b25lLWtleQ=="}):
            assert client.post("/v1/completions", json=body, headers=headers).status_code == 200
    one, another, again, *without = [request.tenant for request in scripted.requests]

    assert one == again != another
    assert len(one) == len(another) == 24
    assert "key" not in one
    assert without == ["", "", ""]


def test_a_key_lets_in_who_has_it(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("a-very-secret-key\n")
    settings = ServerSettings(port=0, api_key_file=str(file), drain_seconds=0)

    with serving(ScriptedBackend(), settings=settings) as server:
        with client_of(server, api_key="a-very-secret-key") as client:
            assert client.models.list().data[0].id == "scripted"
        with (
            client_of(server, api_key="another-secret-key") as client,
            pytest.raises(openai.AuthenticationError) as refused,
        ):
            client.models.list()

    assert refused.value.code == "invalid_api_key"
    assert refused.value.response.headers["www-authenticate"] == "Bearer"

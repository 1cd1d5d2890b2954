"""What a request can say of its urgency, by the official client."""

from pathlib import Path
from typing import Any

import openai
import pytest

from serving import serving
from tokenworks.errors import DeadlineError
from tokenworks.gateway.engine import EngineBackend
from tokenworks.gateway.scripted import ScriptedBackend
from tokenworks.inference.settings import EngineSettings
from tokenworks.telemetry.metrics import Metrics

HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("said", "priority", "deadline_s"),
    [
        ({}, 0, None),
        ({"extra_body": {"priority": -3, "deadline_s": 2.5}}, -3, 2.5),
        ({"service_tier": "flex"}, -5, None),
        ({"service_tier": "priority"}, 5, None),
        ({"service_tier": "default"}, 0, None),
        ({"service_tier": "flex", "extra_body": {"priority": 0}}, 0, None),
    ],
)
def test_urgency_reaches_the_backend(
    said: dict[str, Any], priority: int, deadline_s: float | None
) -> None:
    backend = ScriptedBackend()
    with (
        serving(backend) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        client.chat.completions.create(model="scripted", messages=HELLO, **said)
        client.completions.create(model="scripted", prompt="hello", extra_body=_body(said))

    for request in backend.requests:
        assert (request.priority, request.deadline_s) == (priority, deadline_s)
    assert len(backend.requests) == 2


def _body(said: dict[str, Any]) -> dict[str, Any]:
    """All of it as the completions method of the client takes it."""
    tier = {"service_tier": said["service_tier"]} if "service_tier" in said else {}
    return {**tier, **said.get("extra_body", {})}


def test_a_deadline_that_cannot_be_met_is_503_and_says_when_to_come_back() -> None:
    late = ScriptedBackend(fault=DeadlineError("in 9 s, after the deadline", retry_after_s=6.2))
    with (
        serving(late) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as refused:
                client.chat.completions.create(model="scripted", messages=HELLO, stream=stream)

            assert refused.value.status_code == 503
            assert refused.value.code == "deadline_exceeded"
            assert refused.value.param == "deadline_s"
            assert refused.value.response.headers["retry-after"] == "7"


def test_an_engine_keeps_deadlines_and_says_so_when_it_cannot(tiny_model: Path) -> None:
    settings = EngineSettings(
        model_path=str(tiny_model), model_id="tiny", threads=1, max_sequences=1
    )
    with (
        serving(EngineBackend(settings, metrics=Metrics())) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):

        def ask(**more: Any) -> Any:
            return client.completions.create(model="tiny", prompt="hello", **more)

        ask(max_tokens=1, extra_body={"deadline_s": 60, "priority": 10})
        endless = {"min_tokens": 1000}
        with ask(max_tokens=1000, stream=True, extra_body=endless) as answer:  # the only place
            next(iter(answer))
            for deadline_s in (1e-6, 0.005):
                with pytest.raises(openai.InternalServerError) as late:
                    ask(max_tokens=1, extra_body={"deadline_s": deadline_s})
                assert late.value.code == "deadline_exceeded"

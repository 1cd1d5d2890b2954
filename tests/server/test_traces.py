"""What a real collector hears of requests over real backends, and what it must never hear."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes, server_attributes

from collector import Collector, attributes, collector
from serving import Serving, serving
from tokenworks.gateway.policies import PolicyFile
from tokenworks.gateway.scripted import ScriptedBackend
from tokenworks.telemetry import spans
from tokenworks.telemetry.otlp import OtlpTraces
from upstream_replies import Script
from upstream_server import UpstreamServer, upstream_server

CANARY = "xylophone-canary-7Q"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
BACKEND = """
[[backends]]
name = "{name}"
url = "{url}"
tier = "{tier}"
clearance = "{clearance}"
models = {{ helper = "their-model" }}
prices = {{ input = "1.00", output = "2.00" }}
allow_private = true
"""


@pytest.fixture
def near() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@pytest.fixture
def far() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@pytest.fixture
def heard() -> Iterator[Collector]:
    with collector() as found:
        yield found


@contextmanager
def traced(
    folder: Path,
    heard: Collector,
    near: UpstreamServer,
    far: UpstreamServer,
    *,
    content: bool = False,
    more: str = "",
) -> Iterator[Serving]:
    path = folder / "policies.toml"
    both = BACKEND.format(name="near", url=near.url, tier="site", clearance="secret")
    both += BACKEND.format(name="far", url=far.url, tier="cloud", clearance="secret")
    path.write_text(more + both)
    traces = OtlpTraces(heard.url, version="test", content=content, period_s=0.01)
    with closing(traces), serving(policies=PolicyFile(path), traces=traces) as server:
        yield server


def ask(server: Serving, text: str = "Say hello.", **headers: str) -> httpx2.Response:
    body = {
        "model": "helper",
        "messages": [{"role": "user", "content": text}],
        "stream": True,
    }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{server.url}/v1/chat/completions"
    return httpx2.post(url, json=body, headers=named, timeout=30)


def test_a_request_is_a_span_in_the_client_s_trace_and_each_attempt_one_below_it(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, heard: Collector
) -> None:
    near.script = Script(fault="status", status=500)
    with traced(tmp_path, heard, near, far) as server:
        ask(server, traceparent=PARENT, x_request_id="r-1")

    (request,) = heard.named("chat helper")
    attempts = heard.named("chat their-model")
    assert request.trace_id.hex() == TRACE
    assert request.parent_span_id.hex() == SPAN
    assert request.kind == 2  # server
    assert [one.kind for one in attempts] == [3, 3]  # client
    assert {one.parent_span_id for one in attempts} == {request.span_id}
    # The ids are those that the backends were told: their spans join these.
    told = [one.headers["traceparent"].split("-")[2] for one in (*near.asked, *far.asked)]
    assert [one.span_id.hex() for one in attempts] == told

    of = attributes(request)
    assert of["gen_ai.operation.name"] == "chat"
    assert of["gen_ai.request.model"] == "helper"
    assert of["tokenworks.request_id"] == "r-1"
    assert of["tokenworks.label"] == "internal"
    assert of["tokenworks.backend"] == "far"
    assert of["tokenworks.attempts"] == 2
    assert of["gen_ai.usage.input_tokens"] > 0
    assert of["gen_ai.usage.output_tokens"] > 0
    assert of["gen_ai.response.time_to_first_chunk"] > 0
    route = json.loads(of["tokenworks.route"])
    assert [one["backend"] for one in route["ranked"]] == ["near", "far"]

    failed, answered = map(attributes, attempts)
    assert (failed["error.type"], failed["tokenworks.outcome"]) == ("500", "failed")
    assert attempts[0].status.code == 2
    assert answered["gen_ai.provider.name"] == "openai"
    assert answered["server.port"] == int(far.url.rpartition(":")[2].partition("/")[0])
    assert answered["gen_ai.response.finish_reasons"] == ["stop"]
    assert answered["gen_ai.response.time_to_first_chunk"] > 0
    assert "error.type" not in answered
    assert request.start_time_unix_nano <= attempts[0].start_time_unix_nano
    assert attempts[0].end_time_unix_nano <= attempts[1].end_time_unix_nano


def test_metrics_of_attempts_have_the_conventions_names(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, heard: Collector
) -> None:
    with traced(tmp_path, heard, near, far) as server:
        ask(server)

    duration = heard.metrics["gen_ai.client.operation.duration"].histogram.data_points
    usage = heard.metrics["gen_ai.client.token.usage"].histogram.data_points
    assert [point.count for point in duration] == [1]
    assert sorted(attributes(point)["gen_ai.token.type"] for point in usage) == ["input", "output"]


def test_a_request_that_nobody_traced_begins_a_trace_and_an_unsampled_one_is_not_told(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, heard: Collector
) -> None:
    with traced(tmp_path, heard, near, far) as server:
        ask(server)
        ask(server, traceparent=f"00-{TRACE}-{SPAN}-00")

    (request,) = heard.named("chat helper")
    assert request.parent_span_id == b""
    assert [one.headers["traceparent"][-2:] for one in near.asked] == ["03", "00"]
    assert near.asked[1].headers["traceparent"].split("-")[1] == TRACE


def test_this_machine_s_own_engine_is_an_attempt_too(heard: Collector) -> None:
    traces = OtlpTraces(heard.url, version="test", period_s=0.01)
    backend = ScriptedBackend(["Hel", "lo"], model="helper")
    with closing(traces), serving(backend, traces=traces) as server:
        ask(server)

    kinds = {span.kind: span for span in heard.named("chat helper")}
    assert set(kinds) == {1, 2}  # internal below server
    assert kinds[1].parent_span_id == kinds[2].span_id
    assert attributes(kinds[1])["gen_ai.provider.name"] == "tokenworks"


@pytest.mark.parametrize("fault", ["", "status", "refused", "error_event", "reset"])
def test_no_prompt_text_in_traces(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, heard: Collector, fault: str
) -> None:
    """Neither of the prompt nor of the answer, nor of what backends say of either."""
    said = f"cannot answer {CANARY}"
    script = Script(pieces=("Hello ", CANARY), message=said)
    if fault in ("status", "refused"):
        script = Script(fault="status", status=500 if fault == "status" else 400, message=said)
    elif fault:
        script = Script(pieces=("Hello ", CANARY), fault=fault, at=2, message=said)
    near.script = far.script = script
    with traced(tmp_path, heard, near, far) as server:
        for _ in range(3):
            ask(server, f"Repeat {CANARY}", traceparent=PARENT, tracestate=f"v={CANARY}")

    assert len(heard.named("chat helper")) == 3
    assert CANARY.encode() not in b"".join(heard.raw)


def test_content_is_in_traces_if_asked_for(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, heard: Collector
) -> None:
    near.script = Script(pieces=("Hello ", CANARY))
    with traced(tmp_path, heard, near, far, content=True) as server:
        ask(server, "What is this?")

    of = attributes(heard.named("chat helper")[0])
    question = {"role": "user", "parts": [{"type": "text", "content": "What is this?"}]}
    assert json.loads(of["gen_ai.input.messages"]) == [question]
    (answer,) = json.loads(of["gen_ai.output.messages"])
    assert answer["parts"][0]["content"] == f"Hello {CANARY}"


@pytest.mark.parametrize("label", ["private", "secret"])
def test_private_and_secret_content_never_leaves_in_a_trace(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, heard: Collector, label: str
) -> None:
    """Also where content is asked for: by the header, by what detectors find, in the answer."""
    near.script = Script(pieces=("Hello ", CANARY))
    with traced(tmp_path, heard, near, far, content=True) as server:
        ask(server, f"Repeat {CANARY}", x_tokenworks_label=label)
        ask(server, f"Write to ada.lovelace@example.org about {CANARY}")
        near.script = Script(pieces=(CANARY, ": ada.lovelace@exa", "mple.org"))
        ask(server, "Who is it?")

    found = b"".join(heard.raw)
    assert len(heard.named("chat helper")) == 3
    assert CANARY.encode() not in found
    assert b"lovelace" not in found


@pytest.mark.parametrize("how", ["dead", "failing", "silent"])
def test_a_dead_collector_hurts_no_request(
    tmp_path: Path, near: UpstreamServer, far: UpstreamServer, heard: Collector, how: str
) -> None:
    """Nobody listens; it refuses; it takes connections and says nothing: requests go on, the
    server ends, and what could not be told is counted."""
    heard.status = 503
    path = tmp_path / "policies.toml"
    path.write_text(BACKEND.format(name="near", url=near.url, tier="site", clearance="secret"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = {"dead": 9, "silent": silent.getsockname()[1]}
        url = f"http://127.0.0.1:{ports[how]}" if how in ports else heard.url
        traces = OtlpTraces(url, version="test", period_s=0.01, most_waiting=4, end_s=0.2)
        with serving(policies=PolicyFile(path), traces=traces) as server:
            slowest = 0.0
            for _ in range(30):
                began = time.monotonic()
                assert ask(server).status_code == 200
                slowest = max(slowest, time.monotonic() - began)
            shown = httpx2.get(f"{server.url}/metrics").text
        began = time.monotonic()
        traces.close()
        assert time.monotonic() - began < 5
    assert slowest < 2
    assert traces.dropped > 0
    assert "tokenworks_traces_dropped" in shown


def test_the_names_are_those_of_the_installed_conventions() -> None:
    known: set[Any] = set()
    for module in (gen_ai_attributes, error_attributes, server_attributes):
        known |= {value for name, value in vars(module).items() if name.isupper()}
    source = Path(spans.__file__).read_text()
    used = {word for word in source.split('"') if word.startswith(("gen_ai.", "error.", "server."))}
    metrics = {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
    assert len(used) > 12
    assert used - metrics <= known

"""The server's life: binding, signals, draining, and what is left afterwards."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from serving import serving
from tokenworks.errors import ConfigError, EngineError
from tokenworks.gateway.scripted import ScriptedBackend
from tokenworks.server.run import address, bind
from tokenworks.server.settings import ServerSettings

PROGRAM = """
import sys
from tokenworks.gateway.engine import EngineBackend
from tokenworks.gateway.gateway import Gateway
from tokenworks.gateway.scripted import ScriptedBackend
from tokenworks.inference.settings import EngineSettings
from tokenworks.server.run import run
from tokenworks.server.settings import ServerSettings
from tokenworks.telemetry.clock import MonotonicClock
from tokenworks.telemetry.metrics import Metrics

model, drain_seconds = sys.argv[1], float(sys.argv[2])
metrics = Metrics()
if model.isdecimal():
    backend = ScriptedBackend(["x"] * int(model), delay_s=0.02)
else:
    settings = EngineSettings(model_path=model, model_id="tiny", executor="reference", threads=1)
    backend = EngineBackend(settings, metrics=metrics)
run(Gateway([backend], metrics, MonotonicClock()),
    ServerSettings(port=0, drain_seconds=drain_seconds), metrics,
    on_ready=lambda url: print(url, flush=True))
"""
CHAT = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


@contextmanager
def program(model: str, drain_seconds: float) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, model, str(drain_seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_signal_lets_running_answers_end_and_refuses_new_ones() -> None:
    with program("100", 20) as (process, url), httpx2.Client(base_url=url) as client:
        with client.stream("POST", "/v1/chat/completions", json=CHAT) as stream:
            lines = stream.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            while (ready := httpx2.get(f"{url}/ready")).status_code == 200:
                time.sleep(0.01)
            refused = httpx2.post(f"{url}/v1/chat/completions", json=CHAT)
            rest = list(lines)
        code = process.wait(timeout=10)

    assert ready.status_code == refused.status_code == 503
    assert "shutting down" in refused.json()["error"]["message"]
    assert rest[-2] == "data: [DONE]"
    assert code == 0


def test_a_second_signal_ends_everything_at_once() -> None:
    with (
        program("5000", 60) as (process, url),
        httpx2.Client(base_url=url) as client,
        client.stream("POST", "/v1/chat/completions", json=CHAT) as stream,
    ):
        lines = stream.iter_lines()
        next(lines)
        process.send_signal(signal.SIGINT)
        while httpx2.get(f"{url}/ready").status_code == 200:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.wait(timeout=10)

    assert time.monotonic() - began < 3


def test_the_worker_ends_with_the_server_even_if_that_is_killed(tiny_model: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with program(str(tiny_model), 0) as (process, url):
            worker = httpx2.get(f"{url}/health").json()["models"]["tiny"]["worker_pid"]
            process.send_signal(number)
            process.wait(timeout=15)
            wait_until_gone(worker)


def wait_until_gone(pid: int) -> None:
    for _ in range(500):
        try:
            os.kill(pid, 0)
            # Whoever adopts orphans here may be slow to reap: a zombie has ended too.
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.01)
    raise AssertionError(f"worker {pid} lives on")


def test_answers_that_do_not_end_in_time_are_cut_off_with_an_error(tiny_model: Path) -> None:
    asked = {"model": "tiny", "prompt": "the", "max_tokens": 1000, "temperature": 0, "stream": True}

    with program(str(tiny_model), 0.1) as (process, url), httpx2.Client(base_url=url) as client:
        with client.stream("POST", "/v1/completions", json=asked) as stream:
            lines = stream.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        code = process.wait(timeout=10)

    assert '"engine_unavailable"' in rest[-1]
    assert code == 0


def test_a_busy_port_is_an_error_with_a_hint() -> None:
    with bind(ServerSettings(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Port {port} .* in use") as busy:
            bind(ServerSettings(port=port))

    assert busy.value.hint is not None
    assert "--port" in busy.value.hint


def test_an_address_that_is_not_ours_is_an_error(tmp_path: Path) -> None:
    for host in ("192.0.2.1", "no-such-name.invalid", "a" * 70):
        with pytest.raises(ConfigError, match=host):
            bind(ServerSettings(host=host, port=0, api_key_file="key"))


def test_an_ipv6_address_is_written_as_one() -> None:
    with bind(ServerSettings(host="::1", port=0)) as listener:
        assert address(listener) == f"http://[::1]:{listener.getsockname()[1]}"


def test_a_backend_that_cannot_start_ends_the_server_and_says_why() -> None:
    class Broken(ScriptedBackend):
        async def start(self) -> None:
            raise EngineError("no such luck")

    with pytest.raises(EngineError, match="no such luck"), serving(Broken()):
        pass

    assert not [thread for thread in threading.enumerate() if thread.name == "server"]


def test_metrics_count_requests_and_tokens() -> None:
    with serving(ScriptedBackend()) as server, httpx2.Client(base_url=server.url) as client:
        client.post("/v1/chat/completions", json=CHAT).raise_for_status()
        client.get("/nowhere")
        text = client.get("/metrics").text

    assert 'tokenworks_requests_total{route="/v1/chat/completions",status="200"} 1.0' in text
    assert 'tokenworks_requests_total{route="other",status="404"} 1.0' in text
    assert 'tokenworks_completion_tokens_total{model="scripted"} 4.0' in text
    assert 'tokenworks_time_to_first_token_seconds_count{model="scripted"} 1.0' in text
    assert 'tokenworks_ready{model="scripted"} 1.0' in text

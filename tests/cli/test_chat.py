from pathlib import Path

import pytest

from factory_process import tokenworks
from serving import serving
from tokenworks.cli.chat import Timing, default_address
from tokenworks.errors import EngineError
from tokenworks.gateway.scripted import ScriptedBackend
from tokenworks.server.settings import ServerSettings

SCRIPT = ("Hel", "lo", " there")


def test_a_question_is_answered_on_stdout_and_timed_on_stderr(tmp_path: Path) -> None:
    backend = ScriptedBackend(SCRIPT)
    with serving(backend) as server:
        answer = tokenworks("chat", "Hi", "--url", server.url, home=tmp_path)

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "Hello there\n"
    assert "3 tokens, first after" in answer.stderr
    assert backend.requests[0].messages == [{"role": "user", "content": "Hi"}]


def test_a_pipe_is_one_question(tmp_path: Path) -> None:
    backend = ScriptedBackend(SCRIPT)
    with serving(backend) as server:
        answer = tokenworks("chat", "--url", server.url, home=tmp_path, stdin="two\nlines")

    assert answer.stdout == "Hello there\n"
    assert backend.requests[0].messages == [{"role": "user", "content": "two\nlines"}]


def test_wishes_reach_the_factory(tmp_path: Path) -> None:
    backend = ScriptedBackend(SCRIPT)
    options = ("--max-tokens", "2", "--temperature", "0")
    with serving(backend) as server:
        answer = tokenworks("chat", "Hi", "--url", server.url, *options, home=tmp_path)

    assert answer.stdout == "Hello\n"
    assert backend.requests[0].temperature == 0


def test_an_error_in_mid_answer_is_told_and_ends_with_code_1(tmp_path: Path) -> None:
    backend = ScriptedBackend(SCRIPT, fault=EngineError("the engine is gone"), fault_at=1)
    with serving(backend) as server:
        answer = tokenworks("chat", "Hi", "--url", server.url, home=tmp_path)

    assert backend.faults_fired == 1
    assert answer.returncode == 1
    assert "error: the engine is gone" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_nothing_asked_is_an_error(tmp_path: Path) -> None:
    backend = ScriptedBackend(SCRIPT)
    with serving(backend) as server:
        answer = tokenworks("chat", "--url", server.url, home=tmp_path, stdin=" \n")

    assert answer.returncode == 1
    assert "error: Nothing was asked" in answer.stderr
    assert backend.requests == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1", "hint: start one with: tokenworks up"),
        ("127.0.0.1:8410", "is no address"),
        ("http://127.0.0.1:port", "is no address"),
    ],
)
def test_where_no_factory_is_the_error_says_what_to_do(url: str, said: str, tmp_path: Path) -> None:
    answer = tokenworks("chat", "Hi", "--url", url, home=tmp_path)

    assert answer.returncode == 1
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_wildcard_address_is_reached_through_loopback() -> None:
    assert default_address(ServerSettings(port=7)) == "http://127.0.0.1:7"
    assert default_address(ServerSettings(host="::1", port=7)) == "http://[::1]:7"
    open_settings = ServerSettings(host="0.0.0.0", port=7, api_key_file="key")
    assert default_address(open_settings) == "http://127.0.0.1:7"


def test_speed_counts_the_tokens_after_the_first() -> None:
    timing = Timing(asked=1.0, first=1.5, last=2.5, tokens=11)

    assert str(timing) == "11 tokens, first after 0.50 s, then 10.0 tokens/s"

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from factory_process import tokenworks
from serving import serving
from tokenworks.cli.chat import Timing
from tokenworks.cli.console import printable
from tokenworks.errors import EngineError
from tokenworks.gateway.scripted import ScriptedBackend

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


def test_a_key_of_the_settings_is_not_shown_to_another_factory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.write_text("our-own-secret-key-of-32-letters")
    monkeypatch.setenv("TOKENWORKS_SERVER_API_KEY_FILE", str(key))
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, ThreadPoolExecutor(1) as pool:
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        heard = pool.submit(first_request, elsewhere)
        tokenworks("chat", "Hi", "--url", url, home=tmp_path)
        heard_with_flag = pool.submit(first_request, elsewhere)
        tokenworks("chat", "Hi", "--url", url, "--api-key-file", str(key), home=tmp_path)

    assert b"our-own-secret" not in heard.result()
    assert b"our-own-secret" in heard_with_flag.result()


def first_request(listener: socket.socket) -> bytes:
    """The head of the next request; its client gets a 404."""
    connection, _ = listener.accept()
    with connection:
        head = connection.recv(65536)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        return head


def test_what_is_said_to_this_machine_takes_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving(ScriptedBackend(SCRIPT)) as server:
        answer = tokenworks("chat", "Hi", "--url", server.url, home=tmp_path)

    assert answer.stdout == "Hello there\n", answer.stderr


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


def test_speed_counts_the_tokens_after_the_first() -> None:
    timing = Timing(asked=1.0, first=1.5, last=2.5, tokens=11)

    assert str(timing) == "11 tokens, first after 0.50 s, then 10.0 tokens/s"


def test_only_what_drives_a_terminal_is_replaced() -> None:
    text = "a\u00a0b\u3000c\u200dd\n\t"

    assert printable(text) == text
    assert printable("\x1b[2J\x9b\x7f") == "\ufffd[2J\ufffd\ufffd"

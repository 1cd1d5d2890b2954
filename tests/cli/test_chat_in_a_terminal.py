import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from factory_process import PROGRAM, surroundings
from serving import serving
from tokenworks.gateway.scripted import ScriptedBackend

LIMIT_SECONDS = 20


class Terminal:
    """A person's side of a pseudo-terminal."""

    def __init__(self, side: int) -> None:
        self._side = side
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._side, text.encode())

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + LIMIT_SECONDS
        while text not in self.seen:
            ready, _, _ = select.select([self._side], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} did not come; seen: {self.seen!r}"
            self.seen += os.read(self._side, 4096).decode(errors="replace")
        self.seen = self.seen.partition(text)[2]


def _as_a_login_shell_would() -> None:
    os.close(os.open(os.ttyname(0), os.O_RDWR))  # the controlling terminal
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs tests in the background ignores it


@contextmanager
def chatting(url: str, home: Path) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    person, program = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "chat", "--url", url],
        stdin=program,
        stdout=program,
        stderr=program,
        start_new_session=True,
        preexec_fn=_as_a_login_shell_would,
        env={**surroundings(home), "TERM": "dumb"},
    )
    os.close(program)
    try:
        yield Terminal(person), process
    finally:
        process.kill()
        process.wait()
        os.close(person)


def test_a_conversation_remembers_until_told_to_forget(tmp_path: Path) -> None:
    backend = ScriptedBackend(("Good ", "day"))
    with serving(backend) as server, chatting(server.url, tmp_path) as (terminal, process):
        for question in ("One", "Two", "/new", "Three"):
            terminal.wait_for("> ")
            terminal.type(f"{question}\r")
            if question != "/new":
                terminal.wait_for("Good day")
        terminal.wait_for("> ")
        terminal.type("/quit\r")

        assert process.wait(LIMIT_SECONDS) == 0

    said = [
        [message["content"] for message in request.messages or []] for request in backend.requests
    ]
    assert said == [["One"], ["One", "Good day", "Two"], ["Three"]]


def test_ctrl_c_stops_the_answer_and_not_the_conversation(tmp_path: Path) -> None:
    backend = ScriptedBackend(("tick ",) * 1000, delay_s=0.05)
    with serving(backend) as server, chatting(server.url, tmp_path) as (terminal, process):
        terminal.wait_for("> ")
        terminal.type("Count\r")
        terminal.wait_for("tick tick ")
        terminal.type("\x03")
        terminal.wait_for("stopped")
        terminal.wait_for("> ")
        terminal.type("/quit\r")

        assert process.wait(LIMIT_SECONDS) == 0

    assert backend.closed_early == 1


def test_escape_codes_of_a_model_do_not_reach_the_terminal(tmp_path: Path) -> None:
    backend = ScriptedBackend(("\x1b]0;title\x07", "fine"))
    with serving(backend) as server, chatting(server.url, tmp_path) as (terminal, _):
        terminal.wait_for("> ")
        terminal.type("Hi\r")
        terminal.wait_for("\ufffd]0;title\ufffdfine")

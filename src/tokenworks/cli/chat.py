"""`tokenworks chat`: a conversation in the terminal with a running factory."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import httpx2
import msgspec

from tokenworks.cli.console import aside, printable
from tokenworks.errors import EngineError, RequestError, TokenworksError
from tokenworks.server.settings import ServerSettings, is_loopback, read_api_key, url_of

_TIMEOUT = httpx2.Timeout(10, read=300)  # seconds; a long prompt on a small machine takes a while


class Wishes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the person asked for about every answer; None leaves it to the factory."""

    max_tokens: int | None = None
    temperature: float | None = None


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    delta: Delta
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    completion_tokens: int = 0


class Problem(msgspec.Struct):
    message: str = ""


class Event(msgspec.Struct):
    """The parts of a streamed chunk that matter here."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: Problem | None = None


class Message(msgspec.Struct):
    role: Literal["user", "assistant"]
    content: str


@dataclass(slots=True)
class Timing:
    """When the tokens of one answer came, in seconds of a monotonic clock."""

    asked: float
    first: float | None = None
    last: float = 0.0
    tokens: int = 0

    def __str__(self) -> str:
        if self.first is None:
            return "no token"
        text = f"{self.tokens or 'some'} tokens, first after {self.first - self.asked:.2f} s"
        if self.tokens > 1 and self.last > self.first:
            text += f", then {(self.tokens - 1) / (self.last - self.first):.1f} tokens/s"
        return text


@dataclass(slots=True)
class Conversation:
    """What was said so far, and with whom."""

    client: httpx2.Client
    model: str
    wishes: Wishes
    messages: list[Message] = field(default_factory=list)
    timing: Timing | None = None

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer's text as it comes. One cut short stays in the history as it is."""
        asked = Message("user", question)
        answer = Message("assistant", "")
        self.timing = Timing(asked=time.monotonic())
        body = {
            "model": self.model,
            "messages": [*self.messages, asked],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        content = msgspec.json.encode(body | msgspec.to_builtins(self.wishes))
        try:
            for event in _events(self.client, content):
                if event.usage:
                    self.timing.tokens = event.usage.completion_tokens
                for text in (choice.delta.content for choice in event.choices):
                    if text:
                        self.timing.last = time.monotonic()
                        self.timing.first = self.timing.first or self.timing.last
                        answer.content += text
                        yield text
        finally:
            if answer.content:
                self.messages += [asked, answer]


def run(
    settings: ServerSettings,
    question: str | None,
    wishes: Wishes,
    *,
    url: str | None,
    key_is_for_url: bool,
) -> None:
    """Ask once if there is a question or stdin is no terminal, else talk until /quit.

    The settings' key opens the factory of the settings; another `url` gets it only if it is said
    to be for that one.
    """
    address = (url or url_of(settings.host, settings.port)).rstrip("/").removesuffix("/v1")
    key = read_api_key(settings) if url is None or key_is_for_url else None
    headers = {"content-type": "application/json"}
    headers |= {"authorization": f"Bearer {key}"} if key else {}
    try:
        # What is said to this machine must not take the way through a proxy.
        proxies = not is_loopback(httpx2.URL(address).host)
        with httpx2.Client(
            base_url=address, headers=headers, timeout=_TIMEOUT, trust_env=proxies
        ) as client:
            conversation = Conversation(client, _served_model(client), wishes)
            if question is None and not sys.stdin.isatty():
                question = sys.stdin.read()
            if question is not None and not question.strip():
                raise RequestError("Nothing was asked", hint='tokenworks chat "Hello!"')
            if question is not None:
                _answer(conversation, question)
            else:
                _talk(conversation, address)
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        raise EngineError(
            f"No factory answers at {address}", hint="start one with: tokenworks up"
        ) from error
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise RequestError(
            f"'{address}' is no address", hint="like http://127.0.0.1:8410"
        ) from error
    except httpx2.HTTPError as error:
        raise EngineError(
            f"The connection to {address} broke: {error}", hint="is the factory still running?"
        ) from error


def _talk(conversation: Conversation, address: str) -> None:
    import readline  # noqa: F401  (gives input() line editing and a history in memory)

    aside.print(f"{conversation.model} at {address}. /new forgets, /quit ends.", style="bold")
    while True:
        try:
            question = input("\n> ").strip()
        except (EOFError, KeyboardInterrupt):
            aside.print()
            return
        if question == "/quit":
            return
        if question == "/new":
            conversation.messages.clear()
        elif question:
            _answer_and_stay(conversation, question)


def _answer_and_stay(conversation: Conversation, question: str) -> None:
    try:
        _answer(conversation, question)
    except KeyboardInterrupt:
        aside.print("\nstopped", style="dim")
    except TokenworksError as error:
        aside.print(f"\n{printable(str(error))}", style="red")


def _answer(conversation: Conversation, question: str) -> None:
    terminal = sys.stdout.isatty()
    for text in conversation.ask(question):
        sys.stdout.write(printable(text) if terminal else text)
        sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
    aside.print(f"{conversation.timing}", style="dim")


def _served_model(client: httpx2.Client) -> str:
    response = client.get("/v1/models")
    _check(response)
    try:
        return str(response.json()["data"][0]["id"])
    except (ValueError, LookupError, TypeError) as error:
        raise EngineError(
            f"What answers at {client.base_url} is no factory", hint="check --url"
        ) from error


def _events(client: httpx2.Client, content: bytes) -> Iterator[Event]:
    with client.stream("POST", "/v1/chat/completions", content=content) as response:
        if response.is_error:
            response.read()
            _check(response)
        for line in response.iter_lines():
            data = line.removeprefix("data: ")
            if data == "[DONE]" or data == line:
                continue
            try:
                event = msgspec.json.decode(data, type=Event)
            except msgspec.DecodeError as error:
                raise EngineError(
                    f"{client.base_url} sent what is no part of an answer: {error}",
                    hint="check --url",
                ) from error
            if event.error:
                raise EngineError(event.error.message)
            yield event


def _check(response: httpx2.Response) -> None:
    """Turn an error answer into the message it carries."""
    if not response.is_error:
        return
    try:
        message = msgspec.json.decode(response.content, type=Event).error
    except msgspec.DecodeError:
        message = None
    said = message.message if message and message.message else "no reason given"
    hint = "give the key's file with --api-key-file" if response.status_code == 401 else None
    raise RequestError(f"The factory answered {response.status_code}: {said}", hint=hint)

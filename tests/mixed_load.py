"""Requests of every kind at a running factory, a bounded number at once, some of them unkind."""

import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

WORDS = ("the", "a", "time", "people", "way", "day", "of", "and", "in", "is", "to", "small", "on")
SHARED = " ".join(WORDS * 5)
"""A beginning that many prompts have in common."""

Body = dict[str, Any]


@dataclass
class Client:
    """One user: sends one request after the other and holds each answer to what was asked."""

    url: str
    model: str
    context: int
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)

    def run(self, until: float) -> Counter[str]:
        kinds: list[Callable[[httpx2.Client], None]] = [
            *(self.streams, self.streams, self.leaves, self.leaves, self.asks_for_several),
            *(self.sends_a_long_prompt, self.samples_with_everything, self.errs, self.vanishes),
            self.is_in_a_hurry,
        ]
        while time.monotonic() < until:
            with httpx2.Client(base_url=self.url, timeout=120) as client:
                for _ in range(self.random.randrange(1, 12)):  # requests of one connection
                    kind = self.random.choice(kinds)
                    kind(client)
                    self.done[kind.__name__] += 1
                    if time.monotonic() >= until:
                        break
        return self.done

    def streams(self, client: httpx2.Client) -> None:
        """Reads an answer to its end."""
        with client.stream("POST", "/v1/chat/completions", json=self.chat(24)) as answer:
            assert answer.status_code == 200, answer.read()
            lines = [line for line in answer.iter_lines() if line]
        assert lines[-1] == "data: [DONE]", lines[-1]

    def leaves(self, client: httpx2.Client) -> None:
        """Closes the connection in the midst of an answer."""
        with client.stream("POST", "/v1/chat/completions", json=self.chat(400)) as answer:
            assert answer.status_code == 200, answer.read()
            lines = answer.iter_lines()
            for _ in range(self.random.randrange(1, 16)):
                next(lines, None)

    def asks_for_several(self, client: httpx2.Client) -> None:
        body = self.text(self.words(30), 12) | {"n": 3, "temperature": 0.9}
        assert len(self.posted(client, body)["choices"]) == 3

    def sends_a_long_prompt(self, client: httpx2.Client) -> None:
        """Half the context, partly a beginning that others share."""
        tokens = [self.random.randrange(5, 250) for _ in range(self.context // 2)]
        shared = tokens[: self.random.randrange(len(tokens))]
        tokens[: len(shared)] = [7 + place % 100 for place in range(len(shared))]
        usage = self.posted(client, self.text(tokens, 4))["usage"]
        assert usage["prompt_tokens"] == len(tokens)

    def samples_with_everything(self, client: httpx2.Client) -> None:
        more = {"temperature": 1.1, "top_p": 0.9, "seed": self.random.randrange(1 << 30)}
        more |= {"frequency_penalty": 0.5, "presence_penalty": 0.2, "logprobs": 3, "stop": ["zq"]}
        assert self.posted(client, self.text(SHARED + self.words(5), 16) | more)["choices"]

    def is_in_a_hurry(self, client: httpx2.Client) -> None:
        """Wants its first token within a few milliseconds, or sooner than can be."""
        hurry = {"deadline_s": 10 ** self.random.uniform(-4, 0), "priority": 10}
        answer = client.post("/v1/completions", json=self.text(self.words(40), 4) | hurry)
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code == 503:
            assert answer.json()["error"]["code"] == "deadline_exceeded", answer.text

    def errs(self, client: httpx2.Client) -> None:
        wrong = self.random.choice(
            (
                self.text("x", 4) | {"temperature": 99},
                self.text([5] * (self.context + 1), 4),
                self.text("x", 4) | {"model": "no-such-model"},
            )
        )
        answer = client.post("/v1/completions", json=wrong)
        assert answer.status_code in (400, 404), answer.text

    def vanishes(self, client: httpx2.Client) -> None:
        """Is gone before there is an answer, or before the request is whole."""
        body = json.dumps(self.text(SHARED, 300)).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        place = urlsplit(self.url)
        with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
            whole = head.encode() + body
            connection.sendall(whole[: self.random.choice((len(head), len(whole) - 9, len(whole)))])
            time.sleep(self.random.uniform(0, 0.05))

    def posted(self, client: httpx2.Client, body: Body) -> Body:
        answer = client.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        result: Body = answer.json()
        return result

    def chat(self, max_tokens: int) -> Body:
        messages = [{"role": "user", "content": SHARED + self.words(self.random.randrange(30))}]
        asked = {"model": self.model, "messages": messages, "max_tokens": max_tokens}
        return asked | {"stream": True, "temperature": self.random.choice((0, 0.7))}

    def text(self, prompt: str | list[int], max_tokens: int) -> Body:
        asked = {"model": self.model, "prompt": prompt, "max_tokens": max_tokens}
        return asked | {"priority": self.random.randrange(-10, 11)}

    def words(self, count: int) -> str:
        return "".join(" " + self.random.choice(WORDS) for _ in range(count))


@contextmanager
def under_load(
    url: str, model: str, context: int, *, clients: int, seconds: float
) -> Iterator[Callable[[], Counter[str]]]:
    """Users for so many seconds; the function waits for them and returns what they have done.

    It raises what any of them was astonished by.
    """
    until = time.monotonic() + seconds
    users = [Client(url, model, context, random.Random(number)) for number in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        jobs = [pool.submit(user.run, until) for user in users]
        yield lambda: sum((job.result() for job in jobs), Counter())

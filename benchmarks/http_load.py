"""Asks a server over HTTP as its users would, and writes down when each piece of text came.

Threads and the standard library: the same client for every server, on the same processor as they.
"""

import json
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

TEMPERATURE = 0.7
TOGETHER_S = 1e-3
"""Pieces that come within this time came at once: of one forward, or of one packet."""
SAMPLING = {"top_p": 1.0, "top_k": 40, "min_p": 0.0}
"""Beside temperature and seed, the same for all. With `top_k` 0, llama-server sorts the whole
vocabulary for each token and is a seventh slower."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Served:
    """A running server and what it calls its model."""

    url: str
    model: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one user says, turn by turn; the answers between them are the server's own."""

    turns: tuple[str, ...]
    system: str | None = None
    most_tokens: int = 256


@dataclass(slots=True)
class Answer:
    """Times are `time.perf_counter()`; `cached_tokens` is None where a server does not say."""

    asked: float
    pieces: list[float] = field(default_factory=list)
    text: str = ""
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    ended_itself: bool = False

    @property
    def first_s(self) -> float:
        """Seconds until the first text."""
        return self.pieces[0] - self.asked

    @property
    def gaps_s(self) -> list[float]:
        """Seconds between texts; those that came at once are one."""
        gaps = (late - early for early, late in zip(self.pieces, self.pieces[1:], strict=False))
        return [gap for gap in gaps if gap > TOGETHER_S]


@dataclass(frozen=True, slots=True)
class Run:
    """A workload served once. `seconds` from the first request to the end of the last answer."""

    seconds: float
    answers: list[Answer]

    @property
    def tokens_per_s(self) -> float:
        return sum(answer.tokens for answer in self.answers) / self.seconds


def ask(served: Served, body: dict[str, Any]) -> Answer:
    """Stream one answer, of the chat API or, if the body has a `prompt`, of the older one.

    Raises RuntimeError with the server's words if it refuses.
    """
    kind = "completions" if "prompt" in body else "chat/completions"
    whole = {**body, "model": served.model, "stream": True}
    whole["stream_options"] = {"include_usage": True}
    request = urllib.request.Request(
        f"{served.url}/v1/{kind}",
        json.dumps(whole).encode(),
        {"content-type": "application/json"},
    )
    answer = Answer(time.perf_counter())
    texts: list[str] = []
    try:
        with urllib.request.urlopen(request, timeout=300) as response:
            for line in response:
                if line.startswith(b"data: {"):
                    _take(json.loads(line[6:]), answer, texts)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{served.url}: {error.read().decode()[:500]}") from None
    answer.text = "".join(texts)
    if not answer.tokens:
        raise RuntimeError(f"{served.url} ended an answer without saying what it took")
    answer.pieces = answer.pieces or [time.perf_counter()]
    return answer


def _take(event: dict[str, Any], answer: Answer, texts: list[str]) -> None:
    if error := event.get("error"):
        raise RuntimeError(f"the server failed in mid-answer: {error}")
    for choice in event["choices"]:
        if text := choice.get("text") or choice.get("delta", {}).get("content"):
            answer.pieces.append(time.perf_counter())
            texts.append(text)
        if choice.get("finish_reason"):
            answer.ended_itself = choice["finish_reason"] == "stop"
    if usage := event.get("usage"):
        answer.tokens = usage["completion_tokens"]
        answer.prompt_tokens = usage["prompt_tokens"]
        answer.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")


def converse(
    served: Served,
    conversations: Sequence[Conversation],
    *,
    clients: int,
    stagger_s: float = 0.0,
    temperature: float = TEMPERATURE,
) -> Run:
    """Hold conversations, so many requests at once: who got an answer goes to the end of the queue
    with the next turn. The seed of a request follows from its place among all of them."""
    waiting = deque(
        (number, _opening(talk), talk.turns) for number, talk in enumerate(conversations)
    )
    answers: list[Answer] = []
    lock = threading.Lock()

    def client(place: int) -> None:
        time.sleep(place * stagger_s)
        while True:
            with lock:
                if not waiting:
                    return
                number, messages, turns = waiting.popleft()
            messages.append({"role": "user", "content": turns[0]})
            body = {
                "messages": messages,
                "max_tokens": conversations[number].most_tokens,
                "temperature": temperature,
                "seed": 1000 * number + len(turns),
                **SAMPLING,
            }
            answer = ask(served, body)
            messages.append({"role": "assistant", "content": answer.text})
            with lock:
                answers.append(answer)
                if turns[1:]:
                    waiting.append((number, messages, turns[1:]))

    began = time.perf_counter()
    _all(clients, client)
    return Run(time.perf_counter() - began, answers)


def at_times(served: Served, bodies: Iterable[tuple[float, dict[str, Any]]]) -> list[Answer]:
    """Ask at given seconds from now on, whether earlier requests were answered or not."""
    planned = list(bodies)
    began = time.perf_counter()

    def client(place: int) -> Answer:
        at, body = planned[place]
        time.sleep(max(0.0, began + at - time.perf_counter()))
        return ask(served, body)

    return _all(len(planned), client)


def _opening(talk: Conversation) -> list[dict[str, str]]:
    return [] if talk.system is None else [{"role": "system", "content": talk.system}]


def _all(count: int, work: Callable[[int], T]) -> list[T]:
    """Of so many clients at once. If one fails, the others are not waited for: they end with the
    server."""
    pool = ThreadPoolExecutor(count)
    try:
        return list(pool.map(work, range(count)))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)

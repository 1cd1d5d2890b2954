"""Whole answers, collected for clients that do not stream."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from tokenworks.gateway.backend import Chunk, FinishReason, TokenLogprob, Usage


@dataclass(slots=True)
class Call:
    """A tool call; its arguments are JSON when joined."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Answer:
    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: dict[int, Call] = field(default_factory=dict)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason = "stop"

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def add(self, chunk: Chunk) -> None:
        self.texts.append(chunk.text)
        self.logprobs += chunk.logprobs
        self.finish_reason = chunk.finish_reason or self.finish_reason
        if chunk.reasoning:
            self.reasoning.append(chunk.reasoning)
        for piece in chunk.tool_calls:
            call = self.tool_calls.setdefault(piece.index, Call())
            call.id, call.name = call.id or piece.id, call.name or piece.name
            call.arguments.append(piece.arguments)


async def collect(stream: AsyncGenerator[Chunk, None], n: int) -> tuple[list[Answer], Usage]:
    """The `n` answers of a request by index, and what they took together."""
    answers = [Answer() for _ in range(n)]
    usage = Usage(prompt_tokens=0, completion_tokens=0)
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            if chunk.restarted:
                answers = [Answer() for _ in range(n)]
            answers[chunk.index].add(chunk)
            usage = chunk.usage or usage
    return answers, usage


def usage_json(usage: Usage) -> dict[str, object]:
    """Usage in OpenAI's shape, the same in both APIs."""
    told: dict[str, object] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
    if usage.reasoning_tokens:
        told["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return told

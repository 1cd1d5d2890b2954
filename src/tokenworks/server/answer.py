"""Whole answers, collected for clients that do not stream."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from tokenworks.gateway.backend import Chunk, FinishReason, TokenLogprob, Usage


@dataclass(slots=True)
class Answer:
    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason = "stop"

    @property
    def text(self) -> str:
        return "".join(self.texts)


async def collect(stream: AsyncGenerator[Chunk, None], n: int) -> tuple[list[Answer], Usage]:
    """The `n` answers of a request by index, and what they took together."""
    answers = [Answer() for _ in range(n)]
    usage = Usage(prompt_tokens=0, completion_tokens=0)
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            answer = answers[chunk.index]
            answer.texts.append(chunk.text)
            answer.logprobs += chunk.logprobs
            answer.finish_reason = chunk.finish_reason or answer.finish_reason
            usage = chunk.usage or usage
    return answers, usage


def usage_json(usage: Usage) -> dict[str, object]:
    """Usage in OpenAI's shape, the same in both APIs."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }

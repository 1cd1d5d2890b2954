"""A whole answer, collected for clients that do not stream."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from tokenworks.gateway.backend import Chunk, FinishReason, TokenLogprob, Usage


@dataclass(slots=True)
class Answer:
    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=lambda: Usage(prompt_tokens=0, completion_tokens=0))


async def collect(stream: AsyncGenerator[Chunk, None]) -> Answer:
    answer = Answer()
    texts = []
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            texts.append(chunk.text)
            answer.logprobs += chunk.logprobs
            answer.finish_reason = chunk.finish_reason or answer.finish_reason
            answer.usage = chunk.usage or answer.usage
    answer.text = "".join(texts)
    return answer


def usage_json(usage: Usage) -> dict[str, object]:
    """Usage in OpenAI's shape, the same in both APIs."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }

"""All answers of one request, from an engine's replies to chunks. Pure: knows no worker.

When a worker dies, `job` says what the next one has to do.
"""

from collections.abc import Iterator
from dataclasses import replace

import msgspec

from tokenworks.errors import DeadlineError
from tokenworks.gateway.backend import Chunk, Completion, TokenLogprob, Usage
from tokenworks.gateway.text import AnswerText, with_text
from tokenworks.inference.messages import (
    Alternative,
    Generate,
    Sampling,
    Scores,
    Sibling,
    Token,
)
from tokenworks.inference.sampler import choice_seed
from tokenworks.inference.text.codec import TextCodec


class Choices:
    """Takes the replies in order. `identity` is unique; the answers' own ids begin with it."""

    def __init__(
        self,
        codec: TextCodec,
        request: Completion,
        prompt: list[int],
        sampling: Sampling,
        identity: str,
        public_tokens: int = 0,
    ) -> None:
        self._codec = codec
        self._request = request
        self._prompt = prompt
        self._sampling = sampling
        self._public_tokens = public_tokens
        self._answers = [
            AnswerText(codec, request.stop, len(prompt), min_tokens=request.min_tokens, index=index)
            for index in range(request.n)
        ]
        others = {f"{identity}.{index}": index for index in range(1, request.n)}
        self._open = {identity: 0, **others}  # id → index, of answers that go on
        self._usage = Usage(prompt_tokens=len(prompt), completion_tokens=0)
        self._scored = [self._named(0, None)]  # the prompt's tokens as far as they are scored
        self._silent = request.max_tokens == 0
        self._echoed = [not request.echo] * request.n

    @property
    def finished(self) -> bool:
        return not self._open

    @property
    def received(self) -> int:
        """Tokens of all answers so far."""
        return sum(len(answer.generated) for answer in self._answers)

    def job(self, waited_s: float = 0.0) -> Generate:
        """What an engine still has to compute for this request, which is not `finished` and came
        `waited_s` ago. Raises DeadlineError if it had to begin before."""
        (first, leader), *others = self._open.items()
        received = self.received
        score = self._request.echo and self._request.logprobs is not None and not received
        begun = received > 0 or len(self._open) < len(self._answers)
        return Generate(
            request_id=first,
            prompt=self._prompt,
            sampling=msgspec.structs.replace(
                self._sampling, seed=choice_seed(self._sampling.seed, leader)
            ),
            generated=list(self._answers[leader].generated),
            siblings=[
                Sibling(
                    request_id=request_id,
                    seed=choice_seed(self._sampling.seed, index),
                    generated=list(self._answers[index].generated),
                )
                for request_id, index in others
            ],
            begun=begun,
            score_prompt=score,
            priority=self._request.priority,
            deadline_s=None if begun else self._time_left(waited_s),
            tenant=self._request.tenant,
            public_tokens=self._public_tokens,
        )

    def add(self, reply: Token | Scores) -> Iterator[Chunk]:
        """The chunks that this reply completes; none while its text is not certain yet."""
        if isinstance(reply, Scores):
            self._add_scores(reply)
            return
        index = self._open[reply.request_id]
        if not self._echoed[index]:
            self._echoed[index] = True
            yield self._echo(index)
        chunk = self._silence(index) if self._silent else self._answers[index].add(reply)
        if chunk is None:
            return
        if chunk.finish_reason is not None:
            del self._open[reply.request_id]
            chunk = replace(chunk, usage=self._add_usage(index, chunk.usage))
        yield chunk

    def goes_on(self, request_id: str) -> bool:
        """Whether this answer still takes tokens: a stop string ends one before the engine does."""
        return request_id in self._open

    def _time_left(self, waited_s: float) -> float | None:
        deadline_s = self._request.deadline_s
        if deadline_s is not None and waited_s >= deadline_s:
            raise DeadlineError(
                f"the deadline of {deadline_s:g} s passed before an engine was there",
                retry_after_s=1.0,
            )
        return None if deadline_s is None else deadline_s - waited_s

    def _silence(self, index: int) -> Chunk:
        """All of an answer of which no token was wanted: the engine samples one at least."""
        return Chunk(text="", index=index, finish_reason="length")

    def _add_usage(self, index: int, usage: Usage | None) -> Usage | None:
        """The sum over all answers, once the last of them is complete."""
        if usage is not None:
            total = self._usage.completion_tokens + usage.completion_tokens
            self._usage = replace(self._usage, completion_tokens=total)
            if index == 0:  # what the others share is the first one's prompt
                self._usage = replace(self._usage, cached_tokens=usage.cached_tokens)
        return self._usage if self.finished else None

    def _add_scores(self, reply: Scores) -> None:
        """Named as they come, so that a long prompt's do not stall everybody's streams at once."""
        del self._scored[reply.start :]  # a worker that follows a dead one begins again
        for number, score in enumerate(reply.scores, start=reply.start):
            self._scored.append(self._named(number, score.logprob, score.alternatives))

    def _named(
        self, number: int, logprob: float | None, alternatives: tuple[Alternative, ...] = ()
    ) -> TokenLogprob:
        """Prompt token `number`. A control token has a name, but no place in the text."""
        token = self._prompt[number]
        named = with_text(self._codec, token, logprob, alternatives)
        return replace(named, text="") if self._codec.is_control(token) else named

    def _echo(self, index: int) -> Chunk:
        given = self._request.prompt
        text = given if isinstance(given, str) else self._codec.decode(self._prompt)
        scored = () if self._request.logprobs is None else tuple(self._scored)
        return Chunk(text=text, index=index, logprobs=scored)

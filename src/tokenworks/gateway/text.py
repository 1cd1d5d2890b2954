"""One answer, from tokens to chunks of text. Pure: knows no worker, survives its death."""

from collections.abc import Sequence
from dataclasses import replace

from tokenworks.gateway.backend import Chunk, FinishReason, TokenLogprob, Usage
from tokenworks.inference.messages import Alternative, Token
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.stream import TextStream


class AnswerText:
    """Takes an answer's tokens in order; `generated` is what a new worker needs to go on.

    It is answer number `index` of its request.
    """

    def __init__(
        self,
        codec: TextCodec,
        stop: tuple[str, ...],
        prompt_tokens: int,
        *,
        min_tokens: int = 0,
        index: int = 0,
    ) -> None:
        self.generated: list[int] = []
        self.finished = False
        self._codec = codec
        self._index = index
        self._text = TextStream(codec, stop, min_tokens)
        self._prompt_tokens = prompt_tokens
        self._cached_tokens = 0
        self._logprobs: list[TokenLogprob] = []  # of tokens whose text is not certain yet
        self._delivered = 0

    def add(self, token: Token) -> Chunk | None:
        """The chunk that this token completes; None while its text is not certain yet."""
        if not self.generated:
            self._cached_tokens = token.cached_tokens or 0
        self.generated.append(token.token)
        text = ""
        if token.finish_reason != "stop":  # a stop token is counted, never shown
            text = self._text.feed(token.token)
            if token.logprob is not None:
                self._logprobs.append(self._logprob(token))
        if self._text.stopped:
            self._logprobs = _beginning_within(self._logprobs, text)
            return self._last(text, "stop")
        if token.finish_reason is not None:
            return self._last(text + self._text.flush(), token.finish_reason)
        return self._chunk(text) if text else None

    def _chunk(self, text: str) -> Chunk:
        tokens = len(self.generated) - self._delivered
        self._delivered += tokens
        if not self._logprobs:
            return Chunk(text=text, index=self._index, tokens=tokens)
        logprobs, self._logprobs = tuple(self._logprobs), []
        return Chunk(text=text, index=self._index, tokens=tokens, logprobs=logprobs)

    def _last(self, text: str, reason: FinishReason) -> Chunk:
        self.finished = True
        usage = Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=len(self.generated),
            cached_tokens=self._cached_tokens,
        )
        chunk = self._chunk(text)
        return replace(chunk, finish_reason=reason, usage=usage)

    def _logprob(self, token: Token) -> TokenLogprob:
        return with_text(self._codec, token.token, token.logprob, token.alternatives)


def with_text(
    codec: TextCodec, token: int, logprob: float | None, alternatives: Sequence[Alternative] = ()
) -> TokenLogprob:
    """A token's log-probability and those of the alternatives, with the text of each."""
    raw = codec.token_bytes(token)
    return TokenLogprob(
        text=raw.decode("utf-8", "replace"),
        raw=raw,
        logprob=logprob,
        alternatives=tuple(with_text(codec, x.token, x.logprob) for x in alternatives),
    )


def _beginning_within(logprobs: list[TokenLogprob], text: str) -> list[TokenLogprob]:
    """Those tokens of which something is shown: a stop string cuts the others off."""
    kept, start, end = [], 0, len(text.encode())
    for logprob in logprobs:
        if start < end:
            kept.append(logprob)
        start += len(logprob.raw)
    return kept

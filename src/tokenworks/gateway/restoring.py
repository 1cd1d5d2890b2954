"""Puts back what was masked, in every piece of an answer."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from tokenworks.gateway.backend import Chunk, ToolCallPiece
from tokenworks.gateway.privacy.masking import Unmasker, Vault


async def restored(
    chunks: AsyncGenerator[Chunk, None], vault: Vault, *, json: bool = False
) -> AsyncGenerator[Chunk, None]:
    """The same answer with the originals. Held back is only what may begin a placeholder.

    `json`: the text is JSON, and stays so whatever the originals hold.
    """
    answers: dict[int, _Answer] = {}
    async with aclosing(chunks) as given:
        async for chunk in given:
            if chunk.restarted:
                answers.clear()
            answer = answers.get(chunk.index)
            if answer is None:
                answer = answers[chunk.index] = _Answer(vault, json)
            yield answer.restored(chunk)


class _Answer:
    """Text, reasoning and each tool call's arguments are streams of their own."""

    def __init__(self, vault: Vault, json: bool) -> None:
        self._vault = vault
        self._text, self._reasoning = Unmasker(vault, json=json), Unmasker(vault)
        self._calls: dict[int, Unmasker] = {}

    def restored(self, chunk: Chunk) -> Chunk:
        text, reasoning = self._text.feed(chunk.text), self._reasoning.feed(chunk.reasoning)
        calls = tuple(
            replace(piece, arguments=self._call(piece.index).feed(piece.arguments))
            for piece in chunk.tool_calls
        )
        if chunk.finish_reason is not None:
            text += self._text.flush()
            reasoning += self._reasoning.flush()
            calls += tuple(
                ToolCallPiece(index=index, arguments=rest)
                for index, unmasker in self._calls.items()
                if (rest := unmasker.flush())
            )
        # What tokens were likely says what they stood for; the placeholders' tokens stay with us.
        return replace(chunk, text=text, reasoning=reasoning, tool_calls=calls, logprobs=())

    def _call(self, index: int) -> Unmasker:
        return self._calls.setdefault(index, Unmasker(self._vault, json=True))

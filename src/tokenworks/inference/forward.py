"""What one forward is given, and what its rows of logits say of each sequence. Pure, but that a
sequence is told its next token.
"""

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.executors.base import Batch, Span
from tokenworks.inference.messages import FinishReason, Scores, Token
from tokenworks.inference.row_budget import attended
from tokenworks.inference.sampler import sample, score
from tokenworks.inference.sequence import Chunk, Sequence


def size_of(chunks: list[Chunk]) -> tuple[int, int]:
    """How many rows a batch has, and how many tokens they attend to together."""
    return (
        sum(chunk.rows for chunk in chunks),
        sum(attended(chunk.sequence.computed, chunk.rows) for chunk in chunks),
    )


def batch_of(chunks: list[Chunk]) -> Batch:
    """All chunks' rows. Logits are asked for after prompt tokens to be scored, and after the last
    known token and each of the draft."""
    tokens: list[int] = []
    spans: list[Span] = []
    logit_rows: list[int] = []
    for chunk in chunks:
        sequence, start = chunk.sequence, chunk.sequence.computed
        tokens += sequence.tokens[start : start + chunk.length]
        tokens += chunk.draft
        spans.append(Span(start=start, length=chunk.rows, pages=sequence.table.pages))
        end = len(tokens)
        first = end - chunk.rows - start  # the batch's row of the sequence's token 0
        logit_rows += [first + number for number in chunk.scored_rows]
        if chunk.completes:
            logit_rows += range(end - 1 - len(chunk.draft), end)
    return Batch(
        tokens=np.array(tokens, np.int32),
        spans=tuple(spans),
        logit_rows=np.array(logit_rows, np.int32),
    )


def scores_of(sequence: Sequence, numbers: range, rows: NDArray[np.float32]) -> Scores:
    """The scores of the tokens after those with these numbers, one a row."""
    wanted = sequence.sampling.logprobs or 0
    scores = [
        score(row, sequence.tokens[number + 1], wanted)
        for number, row in zip(numbers, rows, strict=True)
    ]
    sequence.scored = numbers.stop
    return Scores(request_id=sequence.request_id, start=numbers.start + 1, scores=scores)


def next_token(sequence: Sequence, logits: NDArray[np.float32]) -> Token:
    """Choose what follows, from logits [vocabulary]; the sequence has it then."""
    index = sequence.generated
    sampled = sample(logits, sequence.sampling, index, sequence.steering)
    sequence.tokens.append(sampled.token)
    if sequence.steering is not None:
        sequence.steering.add(sampled.token)
    if sequence.drafting is not None:
        sequence.drafting.read(sampled.token, sampled.likeliest)
    return Token(
        request_id=sequence.request_id,
        token=sampled.token,
        finish_reason=_finish_reason(sequence),
        logprob=sampled.logprob,
        alternatives=sampled.alternatives,
        cached_tokens=sequence.cached if index == sequence.resumed_at else None,
    )


def _finish_reason(sequence: Sequence) -> FinishReason | None:
    if sequence.tokens[-1] in sequence.sampling.stop_tokens:
        return "stop"
    return "length" if sequence.generated >= sequence.sampling.max_tokens else None

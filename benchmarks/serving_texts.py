"""What the served requests say: from a folder of public prompt sets, or our own small samples."""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import serving_samples as samples

TRACE_SHARE = 64
"""One conversation of so many in the trace is replayed, and time runs faster by as much less a
little (`replay.py`), so that this machine's load is like that of the machines it comes from."""
BLOCK_TOKENS = 32
"""A block of the trace is 512 tokens there."""
_SCALE = 512 // BLOCK_TOKENS

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request of the trace: when, which blocks its prompt is made of, how long the answer is."""

    at_s: float
    blocks: tuple[int, ...]
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Texts:
    """`dialogues` are what one user says, turn by turn; `problems` come with their answers."""

    origin: str
    dialogues: Sequence[tuple[str, ...]]
    problems: Sequence[tuple[str, str]]
    functions: Sequence[str]
    trace: Sequence[Arrival]


def read_texts(folder: Path | None) -> Texts:
    """MT-Bench, GSM8K, HumanEval and Mooncake's conversation trace, under the names that their
    publishers gave them. Raises FileNotFoundError for a folder that lacks one."""
    if folder is None:
        return _samples()
    with gzip.open(folder / "HumanEval.jsonl.gz", "rt") as file:
        functions = [row["prompt"] + row["canonical_solution"] for row in map(json.loads, file)]
    return Texts(
        origin="MT-Bench, GSM8K, HumanEval, Mooncake's conversation trace",
        dialogues=[tuple(row["turns"]) for row in _rows(folder / "mt_bench_question.jsonl")],
        problems=[(row["question"], row["answer"]) for row in _rows(folder / "gsm8k_test.jsonl")],
        functions=functions,
        trace=_trace(list(_rows(folder / "mooncake_conversation_trace.jsonl"))),
    )


def taken(items: Sequence[T], start: int, count: int) -> list[T]:
    """So many items from a place on, from the beginning again after the last."""
    return [items[(start + number) % len(items)] for number in range(count)]


def _samples() -> Texts:
    trace = [
        Arrival(at, blocks, len(blocks) * BLOCK_TOKENS, answer)
        for at, blocks, answer in samples.TRACE
    ]
    names = samples.DIALOGUES, samples.PROBLEMS, samples.FUNCTIONS
    return Texts("built-in samples", *names, trace)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as file:
        yield from map(json.loads, file)


def _trace(rows: Sequence[dict[str, Any]]) -> list[Arrival]:
    """Whole conversations: all begin with the same block, one is told from another by its second.
    Lengths are those of the trace over 16."""
    conversations = defaultdict(list)
    for row in rows:
        conversations[tuple(row["hash_ids"][:2])].append(row)
    some = islice(sorted(conversations), TRACE_SHARE // 2, None, TRACE_SHARE)
    return sorted(
        (
            Arrival(
                at_s=row["timestamp"] / 1e3,
                blocks=tuple(row["hash_ids"]),
                prompt_tokens=max(2, row["input_length"] // _SCALE),
                answer_tokens=max(1, row["output_length"] // _SCALE),
            )
            for key in some
            for row in conversations[key]
        ),
        key=lambda arrival: arrival.at_s,
    )

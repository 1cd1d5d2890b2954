"""Reads judged prompts from a CSV or JSON Lines file."""

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import RequestError
from tokenworks.gateway.quality.training import Pairs

_WORDS = {"true": 1.0, "false": 0.0}
PROMPT = "prompt"


def read_pairs(path: Path, weak: str, strong: str) -> Pairs:
    """Prompts of the column `prompt`, scores of the columns `weak` and `strong`: true or false, or
    a number from 0 to 1. A file that ends in .csv is CSV, any other is JSON Lines.

    Raises RequestError that names the record (from 1, without a CSV's head) and its field.
    """
    if weak == strong:
        raise RequestError(f"{weak!r} is both the weak and the strong model", param="strong")
    records = _read(path)
    if not records:
        raise RequestError(f"'{path}' has no records to train on")
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise RequestError(f"Record {number} of '{path}' is no object")
    for name in (PROMPT, weak, strong):
        if name not in records[0]:
            there = ", ".join(repr(str(one)[:60]) for one in records[0])
            raise RequestError(f"'{path}' has no column {name!r}", hint=f"there are {there}")
    return Pairs(
        prompts=[_prompt(record, number) for number, record in enumerate(records, 1)],
        weak=_scores(records, weak),
        strong=_scores(records, strong),
        names=(weak, strong),
    )


def _read(path: Path) -> list[dict[str, object]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                return [dict(record) for record in csv.DictReader(file)]
            return [json.loads(line) for line in file if line.strip()]
    except OSError as error:
        raise RequestError(f"'{path}' cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error, RecursionError) as error:
        raise RequestError(f"'{path}' is neither CSV nor JSON Lines: {error}") from None


def _prompt(record: dict[str, object], number: int) -> str:
    prompt = record.get(PROMPT)
    if not isinstance(prompt, str) or not prompt.strip():
        raise RequestError(f"Record {number} has no prompt")
    return prompt


def _scores(records: list[dict[str, object]], name: str) -> NDArray[np.float64]:
    scores = []
    for number, record in enumerate(records, 1):
        text = str(record.get(name)).strip().lower()
        try:
            score = _WORDS[text] if text in _WORDS else float(text)
        except ValueError:
            score = -1.0
        if not 0 <= score <= 1:
            raise RequestError(
                f"Record {number}: {name} is {text[:40]!r}", hint="true, false, or from 0 to 1"
            )
        scores.append(score)
    return np.array(scores)

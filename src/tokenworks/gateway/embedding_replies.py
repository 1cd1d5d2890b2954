"""What a backend's reply with embeddings holds: checked, in order, in the encoding asked for."""

import asyncio
import base64
import binascii
from typing import Any, Final, Literal

import numpy as np

from tokenworks.errors import BackendError
from tokenworks.gateway.backend import Completion, Usage
from tokenworks.gateway.upstream.dialect import prompt_size

Encoding = Literal["float", "base64"]
"""`base64`: of little-endian float32, as OpenAI's API has it."""

Vector = list[float] | str

FEW: Final = 8
"""Vectors that are looked at in place; more are in a thread, so that they stall nobody's stream."""


async def vectors_of(
    name: str, reply: dict[str, Any], wanted: int, encoding: Encoding
) -> tuple[Vector, ...]:
    """The vectors of the backend `name` for so many inputs, in their order.

    Raises BackendError for a reply that does not fit.
    """
    data = reply["data"]
    if len(data) != wanted:
        raise _nonsense(name, f"{len(data)} vectors for {wanted} inputs")
    ordered = _ordered(name, data)
    if wanted > FEW:
        return await asyncio.to_thread(_encoded, name, ordered, encoding)
    return _encoded(name, ordered, encoding)


def usage_of(reply: dict[str, Any], request: Completion) -> Usage:
    """As the backend counts, or about so where it does not."""
    said = reply.get("usage")
    tokens = said.get("prompt_tokens") if isinstance(said, dict) else None
    if type(tokens) is not int or not 0 <= tokens < 2**53:
        tokens = prompt_size(request)
    return Usage(prompt_tokens=tokens, completion_tokens=0)


def _ordered(name: str, data: list[dict[str, Any]]) -> list[object]:
    """By their index, where they have one."""
    indexes = [one.get("index", at) for at, one in enumerate(data)]
    if any(type(index) is not int for index in indexes) or sorted(indexes) != [*range(len(data))]:
        raise _nonsense(name, "vectors without an order")
    return [one["embedding"] for _, one in sorted(zip(indexes, data, strict=True), key=_first)]


def _first(pair: tuple[int, object]) -> int:
    return pair[0]


def _encoded(name: str, found: list[object], encoding: Encoding) -> tuple[Vector, ...]:
    """Backends that do not know base64 send numbers; one could do the reverse."""
    vectors: list[Vector] = []
    length = -1
    for one in found:
        numbers = _numbers(name, one)
        if length not in (-1, len(numbers)):
            raise _nonsense(name, "vectors of different lengths")
        length = len(numbers)
        if encoding == "base64":
            text = base64.b64encode(numbers.astype("<f4").tobytes()).decode()
            vectors.append(one if isinstance(one, str) else text)
        else:
            vectors.append(one if isinstance(one, list) else numbers.tolist())
    return tuple(vectors)


def _numbers(name: str, vector: object) -> "np.ndarray[Any, np.dtype[np.floating[Any]]]":
    """Raises BackendError for what is no vector of finite numbers."""
    try:
        if isinstance(vector, str):
            numbers: np.ndarray[Any, Any] = np.frombuffer(
                base64.b64decode(vector, validate=True), "<f4"
            )
        elif isinstance(vector, list) and all(type(x) in (int, float) for x in vector):
            numbers = np.asarray(vector, np.float64)
        else:
            numbers = np.empty(0)
    except (binascii.Error, ValueError, OverflowError):
        numbers = np.empty(0)
    if not len(numbers) or not np.isfinite(numbers).all():
        raise _nonsense(name, "what is no vector")
    return numbers


def _nonsense(name: str, what: str) -> BackendError:
    return BackendError(f"The backend {name!r} cannot answer: it sent {what}")

"""Decides which tensor gets how many bits. Pure: tensors, costs and a limit in, types out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from tokenworks.inference.compression.codes import CODES
from tokenworks.inference.models.gguf import DEFAULT_ALIGNMENT
from tokenworks.inference.models.tensors import TensorInfo, TensorType

Part = Literal[
    "embedding",
    "output",
    "queries and keys",
    "values",
    "attention output",
    "gate and up",
    "down",
]
"""Matrices that do the same in every layer, and so get the same type."""

_PARTS: Final[dict[str, Part]] = {
    "token_embd": "embedding",
    "output": "output",
    "attn_q": "queries and keys",
    "attn_k": "queries and keys",
    "attn_v": "values",
    "attn_output": "attention output",
    "ffn_gate": "gate and up",
    "ffn_up": "gate and up",
    "ffn_down": "down",
}
_OUTER: Final[tuple[Part, ...]] = ("embedding", "output")

Choice = Mapping[Part, TensorType | None]
"""What each part is written as at most; None: as it is."""


class Option(msgspec.Struct, frozen=True):
    """One way to write a part, and the divergence in nats that it should cost by itself."""

    type: TensorType | None
    kl: float


def part_of(name: str) -> Part | None:
    """The part that a tensor is of; None for norms, biases and whatever is not compressed."""
    stem = name.removesuffix(".weight")
    return _PARTS.get(stem.rpartition(".")[2]) if stem != name else None


def for_bits(type: TensorType) -> dict[Part, TensorType | None]:
    """This type in the layers; 8 bits outside of them, where rounding shows most."""
    return {
        part: TensorType.Q8_0 if part in _OUTER else type for part in dict.fromkeys(_PARTS.values())
    }


def types_of(tensors: Mapping[str, TensorInfo], choice: Choice) -> dict[str, TensorType]:
    """What every tensor is written as: as chosen, where that is smaller than what it is."""
    return {name: _type_of(name, info, choice) for name, info in tensors.items()}


def _type_of(name: str, info: TensorInfo, choice: Choice) -> TensorType:
    part = part_of(name)
    chosen = None if part is None else choice.get(part)
    return chosen if chosen is not None and _shrinks(info, chosen) else info.type


def _shrinks(info: TensorInfo, type: TensorType) -> bool:
    """Whether rows divide into the type's blocks, and are smaller then."""
    return info.shape[-1] % type.block_weights == 0 and type.nbytes(info.shape) < info.nbytes


def codes_for(tensors: Iterable[TensorInfo]) -> list[TensorType]:
    """The types, smallest first, that make at least one of these tensors smaller."""
    infos = list(tensors)
    return [type for type in CODES if any(_shrinks(info, type) for info in infos)]


def data_bytes(tensors: Mapping[str, TensorInfo], types: Mapping[str, TensorType]) -> int:
    """What the tensors take in a file, each padded."""
    sizes = (types[name].nbytes(info.shape) for name, info in tensors.items())
    return sum(-(-size // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT for size in sizes)


def with_types(
    tensors: Mapping[str, TensorInfo], types: Mapping[str, TensorType]
) -> dict[str, TensorInfo]:
    """The tensors as they will be, where they lie left open."""
    return {
        name: TensorInfo(name, types[name], info.shape, 0, types[name].nbytes(info.shape))
        for name, info in tensors.items()
    }


def choose(
    options: Mapping[Part, Sequence[Option]], cost: Callable[[Choice], float], limit: float
) -> dict[Part, TensorType | None] | None:
    """The choice that should diverge least within the limit; None if nothing is within it.

    Starts from what costs least and takes, one after the other, the step that gains most
    divergence for its cost and still fits.
    """
    chosen: dict[Part, Option] = {}
    for part, ways in options.items():
        others = {other: its.type for other, its in chosen.items()}
        chosen[part] = min(ways, key=lambda way: (cost({**others, part: way.type}), way.kl))
    best = _types(chosen)
    if cost(best) > limit:
        return None
    while True:
        spent = cost(_types(chosen))
        steps = [
            (part, way, cost({**_types(chosen), part: way.type}) - spent)
            for part, ways in options.items()
            for way in ways
            if way.kl < chosen[part].kl
        ]
        within = [step for step in steps if spent + step[2] <= limit]
        if not within:
            return _types(chosen)
        part, way, _ = max(within, key=lambda step: _gain(chosen[step[0]].kl - step[1].kl, step[2]))
        chosen[part] = way


def _gain(divergence: float, cost: float) -> float:
    return divergence / cost if cost > 0 else float("inf")


def _types(chosen: Mapping[Part, Option]) -> dict[Part, TensorType | None]:
    return {part: option.type for part, option in chosen.items()}

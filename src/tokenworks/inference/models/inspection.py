"""Says what is in a model file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.folder_files import size_of
from tokenworks.inference.models.gguf_values import LazyArray
from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.models.panel_format import GroupFormat, matrix_form
from tokenworks.inference.models.rounding import AS_STORED, Formats, matrix_class
from tokenworks.inference.models.tensors import TensorInfo, TensorType

TensorClass = Literal[
    "embedding", "positions", "output", "attention", "feed forward", "norm", "bias", "other"
]
_LONGEST_VALUE = 80


@dataclass(frozen=True, slots=True)
class TensorGroup:
    """All tensors of one class, type and form: how many, how many weights, how many bytes.

    `runs_as` says what the native kernels compute with, and how near that is to the file.
    """

    tensor_class: TensorClass
    type: TensorType
    runs_as: str
    tensors: int
    weights: int
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What `models inspect` shows. `metadata` has long values cut and arrays as their length."""

    id: str
    path: Path
    file_bytes: int
    licence: str | None
    config: ModelConfig
    groups: tuple[TensorGroup, ...]
    metadata: Mapping[str, str]

    @property
    def weights(self) -> int:
        """Number of weights, all tensors together."""
        return sum(group.weights for group in self.groups)


def inspect_file(
    path: Path, *, id: str, licence: str | None = None, formats: Formats = AS_STORED
) -> Inspection:
    """Read a model file's header. `licence` is used where the file names none; `formats` are what
    matrices are rounded to.

    Raises ModelFileError for a file that Tokenworks cannot run, naming why.
    """
    model = load_model(path)
    try:
        stated = model.metadata.get("general.license")
        return Inspection(
            id=id,
            path=path,
            file_bytes=size_of(path),
            licence=licence or (stated if isinstance(stated, str) else None),
            config=model.config,
            groups=_groups(model, formats),
            metadata={key: _shown(value) for key, value in model.metadata.items()},
        )
    finally:
        model.close()


def _groups(model: Model, formats: Formats) -> tuple[TensorGroup, ...]:
    sums: dict[tuple[TensorClass, TensorType, str], tuple[int, int, int]] = {}
    tied = model.config.tied_embedding
    for name, info in model.tensors.items():
        tensor_class = _tensor_class(name)
        of = matrix_class(name, tied=tied)
        wanted = formats.get(of) if of else None
        key = (tensor_class, info.type, _runs_as(info, tensor_class, wanted, tied=tied))
        tensors, weights, nbytes = sums.get(key, (0, 0, 0))
        here = info.nbytes // info.type.block_bytes * info.type.block_weights
        sums[key] = (tensors + 1, weights + here, nbytes + info.nbytes)
    largest_first = sorted(sums.items(), key=lambda item: -item[1][2])
    return tuple(TensorGroup(*key, *total) for key, total in largest_first)


def _runs_as(
    info: TensorInfo, tensor_class: TensorClass, wanted: GroupFormat | None, *, tied: bool
) -> str:
    if len(info.shape) == 1 or tensor_class == "positions":
        return "F32, exact"
    matrix = matrix_form(info.type, info.shape[-1], wanted)
    if tensor_class != "embedding":
        return matrix
    rows = f"rows: {info.type.name}, exact"  # looked up as they are stored
    return f"{rows}; output: {matrix}" if tied else rows


def _tensor_class(name: str) -> TensorClass:
    part = name.split(".")[-2] if "." in name else name
    if part.endswith("norm"):
        return "norm"
    if name.endswith(".bias"):
        return "bias"
    if part.startswith("attn"):
        return "attention"
    if part.startswith("ffn"):
        return "feed forward"
    if part == "token_embd":
        return "embedding"
    if part in ("position_embd", "token_types"):
        return "positions"
    return "output" if part == "output" else "other"


def _shown(value: object) -> str:
    if isinstance(value, LazyArray):
        return f"{len(value)} × {value.type.name.lower()}"
    text = str(value).replace("\n", "⏎")
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"

"""What each class of a model's matrices costs in each format: bytes, and seconds here."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, get_args

import msgspec

from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.packing import panel_bytes, panels_of
from tokenworks.inference.models.panel_format import GROUP, GroupFormat, PanelFormat, panel_format
from tokenworks.inference.models.rounding import CLASSES, MatrixClass, matrix_class
from tokenworks.inference.models.tensors import TensorInfo

FORMATS: Final[tuple[GroupFormat, ...]] = get_args(GroupFormat)
TOGETHER: Final = 16
"""Rows of a forward for many; one for a lone answer is the other that counts."""
_RUNS: Final = 9
_PASS_BYTES: Final = 4 << 20
_MOST_MEMORY: Final = 96 << 20

PanelSeconds = Mapping[tuple[int, PanelFormat, int], float]
"""By inputs of a matrix, format and rows of activations: what one panel takes of all threads."""


class Cost(msgspec.Struct, frozen=True):
    """Bytes, and seconds that their products take in a forward of one row and of `TOGETHER`."""

    nbytes: int
    alone: float
    together: float


class ClassCosts(msgspec.Struct, frozen=True, kw_only=True):
    """Of one class: as its file has it, and in each format that takes less."""

    matrix_class: MatrixClass
    stored: Cost
    rounded: dict[GroupFormat, Cost]


def class_costs(
    tensors: Mapping[str, TensorInfo], config: ModelConfig, seconds: PanelSeconds
) -> tuple[ClassCosts, ...]:
    """Of all classes that the model has. Pure."""
    classes: dict[MatrixClass, list[TensorInfo]] = {}
    for matrix_of, info in _matrices(tensors, config):
        classes.setdefault(matrix_of, []).append(info)
    found = []
    for name in CLASSES:
        if name in classes:
            stored = _cost(classes[name], None, seconds)
            costs = {format: _cost(classes[name], format, seconds) for format in FORMATS}
            rounded = {f: cost for f, cost in costs.items() if cost.nbytes < stored.nbytes}
            found.append(ClassCosts(matrix_class=name, stored=stored, rounded=rounded))
    return tuple(found)


def measure_panels(
    tensors: Mapping[str, TensorInfo], config: ModelConfig, *, path: str, threads: int
) -> PanelSeconds:
    """Time the kernels on panels as wide as the model's matrices; a tenth of a second a width."""
    from tokenworks.inference import _kernels  # may be missing

    matrices = [info for _, info in _matrices(tensors, config)]
    own = {panel_format(info.type, info.shape[1]) for info in matrices} - {"bf16"}
    # What has fewer than 8 bits is not rounded to 8.
    formats: list[PanelFormat] = sorted({*own, "q4", "q6"})
    memory = min(sum(_bytes(info, None) for info in matrices), _MOST_MEMORY)
    seconds: dict[tuple[int, PanelFormat, int], float] = {}
    for inputs in sorted({info.shape[1] for info in matrices if info.shape[1] % GROUP == 0}):
        for rows in (1, TOGETHER):
            sizes = {"memory_bytes": memory, "pass_bytes": min(memory, _PASS_BYTES), "runs": _RUNS}
            found = _kernels.panel_seconds(path, threads, inputs, formats, rows, **sizes)
            for format, each in zip(formats, found, strict=True):
                seconds[inputs, format, rows] = each
    return seconds


def rounding_could_pay(tensors: Mapping[str, TensorInfo], config: ModelConfig) -> bool:
    """Whether any matrix takes more than the smallest format."""
    return any(
        panel_format(info.type, info.shape[1]) not in ("q4_centred", "q4", "bf16")
        for _, info in _matrices(tensors, config)
    )


def _matrices(
    tensors: Mapping[str, TensorInfo], config: ModelConfig
) -> Iterator[tuple[MatrixClass, TensorInfo]]:
    for name, info in tensors.items():
        of = matrix_class(name, tied=config.tied_embedding)
        if of is not None and len(info.shape) == 2:
            yield of, info


def _cost(
    matrices: Iterable[TensorInfo], wanted: GroupFormat | None, seconds: PanelSeconds
) -> Cost:
    nbytes, alone, together = 0, 0.0, 0.0
    for info in matrices:
        rows, inputs = info.shape
        format = panel_format(info.type, inputs, wanted)
        nbytes += _bytes(info, wanted)
        # Rows of no whole groups stay as they are, so what they take decides nothing.
        alone += panels_of(rows) * seconds.get((inputs, format, 1), 0.0)
        together += panels_of(rows) * seconds.get((inputs, format, TOGETHER), 0.0)
    return Cost(nbytes, alone, together)


def _bytes(info: TensorInfo, wanted: GroupFormat | None) -> int:
    rows, inputs = info.shape
    return panels_of(rows) * panel_bytes(panel_format(info.type, inputs, wanted), inputs)

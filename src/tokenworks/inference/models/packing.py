"""The bytes of a model's weights in the layout of the native kernels (kernels/layout.h)."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.footprint import Footprint
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.panel_format import GROUP, PanelFormat, panel_format
from tokenworks.inference.models.rounding import AS_STORED, Formats, matrix_class
from tokenworks.inference.models.tensors import TensorInfo

KERNEL_LANES = 16
"""Heads are whole numbers of so many dimensions in the native kernels."""
_PANEL_ROWS = 16
_GROUP_BYTES = {"q4_centred": 288, "q4": 320, "q6": 416, "q8": 544}
"""Of 16 rows by 32 inputs: quants, scales, minima."""
_ALIGNMENT = 64
_ROW_SCALES_BYTES = 64  # of a panel of 4-bit groups on a wide path
WIDE_PATHS = frozenset({"amx"})
"""Paths of the kernels that hold 4-bit groups with a scale for each row beside (kernels/wide.h)."""


def footprint_of(path: Path, formats: Formats = AS_STORED, *, wide: bool = False) -> Footprint:
    """Read a model file's header; `formats` are what its matrices are rounded to, `wide`
    says that they run on one of WIDE_PATHS.

    Raises ModelFileError for a file that cannot be run.
    """
    model = load_model(path)
    try:
        return footprint(model.tensors, model.config, formats, wide=wide)
    finally:
        model.close()


def footprint(
    tensors: Mapping[str, TensorInfo],
    config: ModelConfig,
    formats: Formats = AS_STORED,
    *,
    wide: bool = False,
) -> Footprint:
    """That of a model with these tensors, by GGUF's names."""
    packed = packed_bytes(tensors, config, formats, wide=wide)
    return Footprint(
        packed_bytes=sum(packed.values()),
        four_bit_bytes=packed["q4"] + packed["q4_centred"],
        layers=config.layers,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        vocabulary=config.vocabulary,
        context_length=config.context_length,
    )


def packed_bytes(
    tensors: Mapping[str, TensorInfo],
    config: ModelConfig,
    formats: Formats = AS_STORED,
    *,
    wide: bool = False,
) -> Counter[str]:
    """Bytes of all weights in the kernels' layout by its formats, each tensor rounded up to 64.

    `tensors` go by GGUF's names. The embedding is packed only where it is the output head too;
    token types are added to the positions, of which the unused first rows are left out.
    """
    left_out = {"rope_freqs.weight", "token_types.weight"}
    if not config.tied_embedding:
        left_out.add("token_embd.weight")
    total: Counter[str] = Counter()
    for name, info in tensors.items():
        if name not in left_out:
            format, size = _packed(name, info, config, formats, wide=wide)
            total[format] += -(-size // _ALIGNMENT) * _ALIGNMENT
    return total


def _packed(
    name: str, info: TensorInfo, config: ModelConfig, formats: Formats, *, wide: bool
) -> tuple[str, int]:
    if name == "position_embd.weight":
        return "f32", 4 * config.positions * config.hidden
    if len(info.shape) == 1:
        return "f32", 4 * info.shape[0]
    rows, inputs = info.shape
    of = matrix_class(name, tied=config.tied_embedding)
    format = panel_format(info.type, inputs, formats.get(of) if of else None)
    if wide and format.startswith("q4"):
        return "q4", panels_of(rows) * (panel_bytes("q4", inputs) + _ROW_SCALES_BYTES)
    return format, panels_of(rows) * panel_bytes(format, inputs)


def panels_of(rows: int) -> int:
    """Panels of a matrix."""
    return -(-rows // _PANEL_ROWS)


def panel_bytes(format: PanelFormat, inputs: int) -> int:
    """Bytes of one."""
    if format == "bf16":
        return _PANEL_ROWS * inputs * 2
    return inputs // GROUP * _GROUP_BYTES[format]

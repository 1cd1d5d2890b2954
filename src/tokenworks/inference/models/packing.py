"""The bytes of a model's weights in the layout of the native kernels (kernels/layout.h)."""

from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path

from tokenworks.inference.models.footprint import Footprint
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.panel_format import GROUP, panel_format
from tokenworks.inference.models.tensors import TensorInfo

_PANEL_ROWS = 16
_GROUP_BYTES = {"q4": 320, "q8": 544}  # of 16 rows by 32 inputs: quants, scales, minima
_ALIGNMENT = 64


def footprint_of(path: Path) -> Footprint:
    """Read a model file's header. Raises ModelFileError for a file that cannot be run."""
    model = load_model(path)
    try:
        config = model.config
        packed = packed_bytes(model.tensors, tied=config.tied_embedding)
        return Footprint(
            packed_bytes=sum(packed.values()),
            four_bit_bytes=packed["q4"],
            layers=config.layers,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            vocabulary=config.vocabulary,
            context_length=config.context_length,
        )
    finally:
        model.close()


def packed_bytes(tensors: Mapping[str, TensorInfo], *, tied: bool) -> Counter[str]:
    """Bytes of all weights in the kernels' layout by its formats, each tensor rounded up to 64.

    `tensors` go by GGUF's names. The embedding is packed only where it is the output head too
    (`tied`); token types are added to the positions.
    """
    left_out = {"rope_freqs.weight", "token_types.weight"}
    if not tied:
        left_out.add("token_embd.weight")
    total: Counter[str] = Counter()
    for name, info in tensors.items():
        if name not in left_out:
            format, size = _packed(name, info)
            total[format] += -(-size // _ALIGNMENT) * _ALIGNMENT
    return total


def _packed(name: str, info: TensorInfo) -> tuple[str, int]:
    if len(info.shape) == 1 or name == "position_embd.weight":
        return "f32", 4 * prod(info.shape)
    rows, inputs = info.shape
    panels = -(-rows // _PANEL_ROWS)
    format = panel_format(info.type, inputs)
    if format == "bf16":
        return format, panels * _PANEL_ROWS * inputs * 2
    return format, panels * (inputs // GROUP) * _GROUP_BYTES[format]

"""The bytes of a model's weights in the layout of the native kernels (kernels/layout.h)."""

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
        return Footprint(
            packed_bytes=packed_bytes(model.tensors, tied=config.tied_embedding),
            layers=config.layers,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            vocabulary=config.vocabulary,
            context_length=config.context_length,
        )
    finally:
        model.close()


def packed_bytes(tensors: Mapping[str, TensorInfo], *, tied: bool) -> int:
    """Bytes of all weights in the kernels' layout, each tensor rounded up to 64.

    `tensors` go by GGUF's names. The embedding is packed only where it is the output head too
    (`tied`); token types are added to the positions.
    """
    left_out = {"rope_freqs.weight", "token_types.weight"}
    if not tied:
        left_out.add("token_embd.weight")
    packed = (_packed(name, info) for name, info in tensors.items() if name not in left_out)
    return sum(-(-size // _ALIGNMENT) * _ALIGNMENT for size in packed)


def _packed(name: str, info: TensorInfo) -> int:
    if len(info.shape) == 1 or name == "position_embd.weight":
        return 4 * prod(info.shape)
    rows, inputs = info.shape
    panels = -(-rows // _PANEL_ROWS)
    format = panel_format(info.type, inputs)
    if format == "bf16":
        return panels * _PANEL_ROWS * inputs * 2
    return panels * (inputs // GROUP) * _GROUP_BYTES[format]

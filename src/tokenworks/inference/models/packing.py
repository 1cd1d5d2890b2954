"""The bytes of a model's weights in the layout of the native kernels (kernels/layout.h)."""

from collections.abc import Iterable
from pathlib import Path

from tokenworks.inference.models.footprint import Footprint
from tokenworks.inference.models.gguf import read_gguf
from tokenworks.inference.models.kernel_input import matrix_type
from tokenworks.inference.models.llama_config import load_config
from tokenworks.inference.models.tensors import TensorInfo, TensorType

_PANEL_ROWS = 16
_GROUP = 32
_Q4_GROUP_BYTES = 320  # of 16 rows by 32 inputs: nibbles, scales, minima
_Q8_GROUP_BYTES = 544
_ALIGNMENT = 64


def footprint_of(path: Path) -> Footprint:
    """Read a model file's header. Raises ModelFileError for a file that cannot be run."""
    gguf = read_gguf(path)
    try:
        config = load_config(gguf)
        return Footprint(
            packed_bytes=packed_bytes(gguf.tensors.values(), tied=config.tied_embedding),
            layers=config.layers,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            vocabulary=config.vocabulary,
            context_length=config.context_length,
        )
    finally:
        gguf.close()


def packed_bytes(tensors: Iterable[TensorInfo], *, tied: bool) -> int:
    """Bytes of all weights in the kernels' layout, each tensor rounded up to 64.

    The embedding is packed only where it is the output head too (`tied`).
    """
    total = 0
    for info in tensors:
        if info.name == "rope_freqs.weight" or (info.name == "token_embd.weight" and not tied):
            continue
        total += -(-_packed(info) // _ALIGNMENT) * _ALIGNMENT
    return total


def _packed(info: TensorInfo) -> int:
    if len(info.shape) == 1:
        return 4 * info.shape[0]
    rows, inputs = info.shape
    panels = -(-rows // _PANEL_ROWS)
    if matrix_type(info.type) in (TensorType.Q4_0, TensorType.Q4_1):
        return panels * (inputs // _GROUP) * _Q4_GROUP_BYTES
    if inputs % _GROUP == 0:  # also floats: the kernels make 8-bit groups of them
        return panels * (inputs // _GROUP) * _Q8_GROUP_BYTES
    return panels * _PANEL_ROWS * inputs * 2

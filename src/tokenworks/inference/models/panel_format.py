"""What the native kernels compute with for a tensor of a file, and how near to the file that is.

They compute with groups of 32 weights: 4 bits with a scale and a minimum, or 8 bits with a scale,
both float16. A type whose groups are of that kind keeps its quants; the others are rounded to 8-bit
groups, or to bf16 where a row is not a whole number of groups (kernels/panels.inl).
"""

from typing import Final, Literal

from tokenworks.inference.models.tensors import TensorType

PanelFormat = Literal["q4", "q8", "bf16"]

GROUP: Final = 32  # kGroup of the kernels
_FOUR_BITS: Final = (TensorType.Q4_0, TensorType.Q4_1, TensorType.Q4_K)
_EXACT: Final = (
    *(TensorType.Q4_0, TensorType.Q4_1, TensorType.Q8_0),
    *(TensorType.Q5_0, TensorType.IQ4_NL),
)
_SCALES_ROUNDED: Final = (TensorType.IQ4_XS, TensorType.Q4_K)  # products, too long for a float16


def panel_format(type: TensorType, inputs: int) -> PanelFormat:
    """What the kernels hold a matrix of this type and of `inputs` columns in."""
    if type in _FOUR_BITS:
        return "q4"
    return "q8" if inputs % GROUP == 0 else "bf16"


def matrix_form(type: TensorType, inputs: int) -> str:
    """The same in words, and how near."""
    name = {"q4": "4-bit", "q8": "8-bit", "bf16": "bf16"}[panel_format(type, inputs)]
    return f"{name}, {_nearness(type)}"


def _nearness(type: TensorType) -> str:
    if type in _EXACT:
        return "exact"
    return "scales rounded" if type in _SCALES_ROUNDED else "rounded"

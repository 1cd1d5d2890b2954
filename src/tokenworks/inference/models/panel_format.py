"""What the native kernels compute with for a tensor of a file, and how near to the file that is.

They compute with groups of 32 weights: 4 bits with a scale and a minimum (none where nibbles are
centred at 8), or 6 or 8 bits with a scale, all float16. A type whose groups are of that kind keeps
its quants; the others are rounded to 8-bit groups, or to bf16 where a row is not a whole number of
groups (kernels/panels.inl). Any type can be rounded to fewer bits than that, where less memory is
worth more.
"""

from typing import Final, Literal

from tokenworks.inference.models.tensors import TensorType

PanelFormat = Literal["q4_centred", "q4", "q6", "q8", "bf16"]
GroupFormat = Literal["q4", "q6", "q8"]

FORMATS_VERSION: Final = 3
"""Of what kernels make of weights: what was measured with another one says nothing."""
GROUP: Final = 32  # kGroup of the kernels
_BITS: Final[dict[PanelFormat, int]] = {"q4_centred": 4, "q4": 4, "q6": 6, "q8": 8, "bf16": 16}
_EXACT: Final = (
    *(TensorType.Q4_0, TensorType.Q4_1, TensorType.Q8_0),
    *(TensorType.Q5_0, TensorType.IQ4_NL),
)
_SCALES_ROUNDED: Final = (TensorType.IQ4_XS, TensorType.Q4_K)  # products, too long for a float16


def panel_format(type: TensorType, inputs: int, wanted: GroupFormat | None = None) -> PanelFormat:
    """What the kernels hold a matrix of this type and of `inputs` columns in: the type's own
    format, or the one that is wanted if that is smaller."""
    if inputs % GROUP:
        return "bf16"
    own = _own_format(type)
    return wanted if wanted and _BITS[wanted] < _BITS[own] else own


def bits_of(format: PanelFormat) -> int:
    """Bits of one quant."""
    return _BITS[format]


def matrix_form(type: TensorType, inputs: int, wanted: GroupFormat | None = None) -> str:
    """The same in words, and how near."""
    format = panel_format(type, inputs, wanted)
    name = format if format == "bf16" else f"{_BITS[format]}-bit"
    own = format == panel_format(type, inputs)
    return f"{name}, {_nearness(type) if own else 'rounded'}"


def _own_format(type: TensorType) -> PanelFormat:
    if type is TensorType.Q4_0:
        return "q4_centred"
    if type in (TensorType.Q4_1, TensorType.Q4_K):
        return "q4"
    return "q6" if type is TensorType.Q5_0 else "q8"


def _nearness(type: TensorType) -> str:
    if type in _EXACT:
        return "exact"
    return "scales rounded" if type in _SCALES_ROUNDED else "rounded"

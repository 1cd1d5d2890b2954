"""What keys and values are kept as, and what they take then: kernels/pages.h in numbers."""

from typing import Literal

KvFormat = Literal["bf16", "int8"]
"""int8: codes, with a scale in bf16 for a token's key in each head and one for its value."""

_SCALE_BYTES = 2


def vector_bytes(format: KvFormat, dimensions: int) -> int:
    """Bytes of one head's key or value of one token."""
    return dimensions + _SCALE_BYTES if format == "int8" else 2 * dimensions

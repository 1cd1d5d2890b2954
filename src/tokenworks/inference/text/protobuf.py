"""Walks protobuf messages, every length checked before it is used.

Source: protobuf.dev, "Encoding".
"""

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT_BITS = 63

Field = tuple[int, int | bytes]
"""A field's number, and its value: a whole number, or the bytes of everything else."""


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message in order. Raises ValueError where it is malformed."""
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire_type == _BYTES:
            length, position = _varint(message, position)
        elif wire_type in (_FIXED32, _FIXED64):
            length = 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(f"field {number} has the unknown wire type {wire_type}")
        start, position = position, position + length
        if position > end:
            raise ValueError(f"truncated: field {number} ends at byte {position} of {end}")
        yield number, message[start:position]


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """A whole number of up to 64 bits, and where it ends."""
    value = shift = 0
    while position < len(message):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > _LONGEST_VARINT_BITS:
            raise ValueError("a number has more than 64 bits")
    raise ValueError("truncated within a number")

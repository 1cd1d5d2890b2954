"""Puts messages on a byte stream and takes them off it again. Knows no sockets and no engine."""

from collections.abc import Iterator
from struct import Struct
from typing import Generic, TypeVar

import msgspec

from tokenworks.errors import EngineError

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Longer messages are refused on both sides: a length is checked before anything is allocated."""

_LENGTH = Struct(">I")
_encoder = msgspec.msgpack.Encoder()

M = TypeVar("M")


def frame(message: msgspec.Struct) -> bytes:
    """The message as it goes on the wire. Raises EngineError if it is too long."""
    body = _encoder.encode(message)
    if len(body) > MAX_MESSAGE_BYTES:
        raise EngineError(f"a message of {len(body)} bytes is over {MAX_MESSAGE_BYTES}")
    return _LENGTH.pack(len(body)) + body


class Unframer(Generic[M]):
    """Collects what arrives and gives whole messages."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[M]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[M]:
        """The messages that `data` completes, in order; consume them all before the next call.

        Raises EngineError for a message that is too long or that is none of ours.
        """
        self._buffer += data
        position = 0
        while (end := self._end_of_message(position)) is not None:
            body = bytes(memoryview(self._buffer)[position + _LENGTH.size : end])
            position = end
            try:
                yield self._decoder.decode(body)
            except msgspec.DecodeError as error:
                raise EngineError(f"a message cannot be read: {error}") from error
        del self._buffer[:position]

    def _end_of_message(self, position: int) -> int | None:
        if len(self._buffer) < position + _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, position)
        if length > MAX_MESSAGE_BYTES:
            raise EngineError(f"a message of {length} bytes is over {MAX_MESSAGE_BYTES}")
        end = position + _LENGTH.size + int(length)
        return end if end <= len(self._buffer) else None

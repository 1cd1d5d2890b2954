"""Server-sent events, read as their bytes come (WHATWG HTML, section 9.2). Pure."""

from typing import Final, NamedTuple

MOST_EVENT_BYTES: Final = 4 * 1024 * 1024
"""An event is a piece of an answer; one that is longer than this is no answer."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """`name` is empty where the stream gives none; `data` are its lines, joined by line ends."""

    name: bytes
    data: bytes


class EventTooLong(ValueError):  # noqa: N818  (reads as the fact it states)
    """A line or an event is longer than the reader takes."""


class EventReader:
    """Takes the bytes of a stream, cut anywhere; holds no more than the event that is incomplete.

    `comments` counts the lines with which a server only says that it is alive. Ids and retry times
    are left out: a stream of a model's answer cannot be taken up again by them.
    """

    def __init__(self, most_bytes: int = MOST_EVENT_BYTES) -> None:
        self.comments = 0
        self._most_bytes = most_bytes
        self._line = bytearray()  # the line that has no end yet
        self._data: list[bytes] = []
        self._size = 0  # of the event's lines so far
        self._name = b""
        self._after_return = False  # the last byte was \r: a \n that follows belongs to it
        self._begun = False

    @property
    def incomplete(self) -> bool:
        """Whether something of an event has come that is not whole."""
        return bool(self._line or self._data)

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete. Raises EventTooLong."""
        if self._is_one_event(data):
            self._begun = True
            return [Event(b"", data[6:-2])]
        if self._after_return or b"\r" in data:
            data = self._with_plain_line_ends(data)
        events: list[Event] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line = data[start:end]
            if self._line:
                self._line += line
                line = bytes(self._line)
                self._line.clear()
            start = end + 1
            self._take(line, events)
        self._line += data[start:]
        if self._size + len(self._line) > self._most_bytes:
            raise EventTooLong(f"an event has more than {self._most_bytes} bytes")
        return events

    def _is_one_event(self, data: bytes) -> bool:
        """Whether these bytes are one event of one line, as nearly all are: it pays to look."""
        return (
            data.startswith(b"data: ")
            and data.find(b"\n") == len(data) - 2
            and data.endswith(b"\n")
            and b"\r" not in data
            and len(data) <= self._most_bytes
            and not (self._line or self._data or self._name or self._after_return)
        )

    def _with_plain_line_ends(self, data: bytes) -> bytes:
        if self._after_return and data.startswith(b"\n"):
            data = data[1:]
            self._after_return = False
        if data:
            self._after_return = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _take(self, line: bytes, events: list[Event]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            if self._data:
                events.append(Event(self._name, b"\n".join(self._data)))
                self._data, self._size = [], 0
            self._name = b""
            return
        self._size += len(line)
        if self._size > self._most_bytes:
            raise EventTooLong(f"an event has more than {self._most_bytes} bytes")
        field, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value
        elif not field:
            self.comments += 1
            self._size -= len(line)

"""Server-sent events, cut anywhere."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.gateway.upstream.events import Event, EventReader, EventTooLong

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
WORDS = st.text('abz é€:{}"', max_size=12).map(str.encode)


def read(stream: bytes, cuts: list[int], **limits: int) -> list[Event]:
    reader = EventReader(**limits)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [event for a, b in pairwise(edges) for event in reader.feed(stream[a:b])]


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """A stream, and what is in it."""
    end = draw(LINE_ENDS)
    stream, events = b"", []
    for _ in range(draw(st.integers(0, 5))):
        lines = draw(st.lists(WORDS, min_size=1, max_size=3))
        name = draw(st.sampled_from([b"", b"error", b"message_start"]))
        if draw(st.booleans()):
            stream += b": still here" + end
        stream += b"event:" + name + end if name else b""
        stream += b"".join(b"data: " + line + end for line in lines)
        stream += b"id: 7" + end + b"retry" + end + end
        events.append(Event(name, b"\n".join(lines)))
    return stream, events


@given(streams(), st.lists(st.integers(0, 10_000), max_size=20))
def test_events_are_the_same_wherever_the_stream_is_cut(
    stream: tuple[bytes, list[Event]], cuts: list[int]
) -> None:
    data, events = stream

    assert read(data, cuts) == events
    assert read(data, list(range(len(data)))) == events


@given(streams())
def test_an_event_comes_with_its_last_byte_and_nothing_is_held_back(
    stream: tuple[bytes, list[Event]],
) -> None:
    data, events = stream
    reader, found, whole = EventReader(), [], []
    for index in range(len(data)):
        found += reader.feed(data[index : index + 1])
        whole.append(len(found))

    # After the blank line of an event, all events so far are out.
    for count in range(1, len(events) + 1):
        part = data[: whole.index(count) + 1]
        assert len(read(part, [])) == count
        assert not read(part[:-1], [])[count - 1 :]
    assert found == events
    assert not reader.incomplete


def test_a_byte_order_mark_goes_before_the_first_line_only() -> None:
    mark = "\ufeff".encode()

    assert read(mark + b"data: a\n\n" + mark + b"data: b\n\n", [1, 2]) == [Event(b"", b"a")]


def test_only_one_space_is_taken_off_and_a_field_needs_no_value() -> None:
    assert read(b"data:  x\ndata\n\n", []) == [Event(b"", b" x\n")]


def test_an_event_without_data_is_none_and_its_name_is_forgotten() -> None:
    assert read(b"event: ping\n\ndata: x\n\n", []) == [Event(b"", b"x")]


def test_what_is_incomplete_at_the_end_is_no_event() -> None:
    reader = EventReader()

    assert reader.feed(b"data: x\n") == []
    assert reader.incomplete


def test_comments_are_counted() -> None:
    reader = EventReader()

    assert reader.feed(b": one\n:two\n") == []
    assert reader.comments == 2


@pytest.mark.parametrize(
    "endless",
    [b"data: xxxx", b"data: x\n", b"x: yyyyy\n", b"\xff"],
    ids=["line", "event", "unknown field", "garbage"],
)
def test_an_endless_line_or_event_is_given_up_at_the_limit(endless: bytes) -> None:
    reader = EventReader(most_bytes=1000)

    def feed(most: int) -> None:
        for _ in range(0, most, len(endless)):
            reader.feed(endless)

    feed(900)
    with pytest.raises(EventTooLong, match="1000"):
        feed(400)


def test_comments_without_end_take_no_memory() -> None:
    reader = EventReader(most_bytes=100)

    for _ in range(1000):
        assert reader.feed(b": processing\n") == []
    assert not reader.incomplete

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.gateway.resuming import (
    SHORTEST_REPEAT,
    Continuation,
    Diverged,
    Joint,
    Replay,
)

TEXT = st.text("ab \n", max_size=60)


def joined(joint: Joint, text: str, cuts: list[int]) -> str:
    """What the joint lets through of a text that comes in pieces."""
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    pieces = [joint.feed(text[a:b]) for a, b in pairwise(edges)]
    return "".join(pieces) + joint.end()


@given(TEXT, TEXT, st.lists(st.integers(0, 200), max_size=6))
def test_a_replay_adds_exactly_what_was_not_sent(sent: str, rest: str, cuts: list[int]) -> None:
    assert joined(Replay(sent), sent + rest, cuts) == rest


@given(TEXT, TEXT, st.lists(st.integers(0, 200), max_size=6))
def test_a_replay_of_another_answer_is_never_joined(sent: str, other: str, cuts: list[int]) -> None:
    if other.startswith(sent):
        assert joined(Replay(sent), other, cuts) == other[len(sent) :]
    else:
        with pytest.raises(Diverged):
            joined(Replay(sent), other, cuts)


@given(st.text(min_size=SHORTEST_REPEAT, max_size=300), TEXT, st.data())
def test_a_continuation_that_repeats_the_end_of_what_was_sent_is_trimmed(
    sent: str, rest: str, data: st.DataObject
) -> None:
    repeated = data.draw(st.integers(SHORTEST_REPEAT, len(sent)))
    cuts = data.draw(st.lists(st.integers(0, 400), max_size=6))
    second = sent[-repeated:] + rest

    added = joined(Continuation(sent), second, cuts)

    # A longer repeat than was meant may be there by chance: then it is trimmed instead.
    assert second.endswith(added)
    assert len(added) <= len(rest)
    assert sent.endswith(second[: len(second) - len(added)])


@given(st.text("abc", max_size=200), st.lists(st.integers(0, 400), max_size=6))
def test_a_continuation_that_repeats_nothing_loses_nothing(rest: str, cuts: list[int]) -> None:
    assert joined(Continuation("what was sent before " * 4), rest, cuts) == rest


def test_a_word_said_twice_is_no_repeat() -> None:
    assert joined(Continuation("he laughed: ha"), "ha, ha", [2]) == "ha, ha"


def test_nothing_is_held_back_once_no_repeat_is_possible() -> None:
    joint = Continuation("The quick brown fox jumps over the lazy dog")

    assert joint.feed(" and") == " and"
    assert joint.feed(" runs") == " runs"


@pytest.mark.parametrize("pieces", [["  then"], [" ", " ", "then"], ["then"], [" ", "then"]])
def test_white_space_that_a_backend_was_not_shown_does_not_come_twice(pieces: list[str]) -> None:
    joint = Continuation("first,", blank="  ")

    text = "".join(joint.feed(piece) for piece in pieces) + joint.end()

    assert text == ("then" if "".join(pieces) != " then" else " then")

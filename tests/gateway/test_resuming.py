from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tokenworks.gateway.resuming import (
    LOOP_CUE,
    SHORTEST_REPEAT,
    SHORTEST_WHOLE,
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
    assume(not any(_is_loop(sent, length) for length in range(SHORTEST_REPEAT, len(sent) + 1)))
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


@given(st.text("ab ", min_size=SHORTEST_WHOLE, max_size=SHORTEST_REPEAT), TEXT, st.data())
def test_a_short_answer_that_begins_again_is_trimmed(
    sent: str, rest: str, data: st.DataObject
) -> None:
    """Cut off early, what is repeated is all of it."""
    assume(not _is_loop(sent, len(sent)))
    cuts = data.draw(st.lists(st.integers(0, 200), max_size=6))

    assert joined(Continuation(sent), sent + rest, cuts) == rest


@given(st.text("abc, ", min_size=1, max_size=40), st.integers(2, 6), st.integers(0, 200), st.data())
def test_an_answer_in_a_loop_loses_nothing_of_it(
    again: str, times: int, cut: int, data: st.DataObject
) -> None:
    """It says on what it said before: that is no repeat of what was sent."""
    text = "Row upon row: " + again * (2 * times) + "end"
    loop = again * times
    sent = "Row upon row: " + loop + again[: cut % len(again)]
    cuts = data.draw(st.lists(st.integers(0, 600), max_size=6))

    assert sent + joined(Continuation(sent), text[len(sent) :], cuts) == text


def test_a_long_answer_that_begins_again_is_trimmed_whole() -> None:
    """As by servers that give what was begun back as a part of their answer."""
    sent = " ".join(f"{number} boats" for number in range(2000))

    assert joined(Continuation(sent), sent + " and a ship", [100, 9000]) == " and a ship"


def _is_loop(sent: str, length: int) -> bool:
    """Whether it goes on as it did so many letters before, or ends with what repeats itself."""
    last, before = sent[-length:], sent[:-length]
    return before.endswith(last[-LOOP_CUE:]) or any(
        last[period:] == last[:-period] for period in range(1, length // 2 + 1)
    )
